"""Weights of other people: read with the right values, or refused in one sentence; nothing in a file is ever called."""

from __future__ import annotations

import builtins
import copyreg
import functools
import http.server
import io
import os
import pickle
import sys
import threading
import tracemalloc
import zipfile
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from synthetic_checkpoint import HistoryBuffer, write_official_checkpoint

from iood_helpers import load_segmenter
from iood_helpers.datasets.labels import CLASS_NAMES
from iood_helpers.errors import CheckpointError
from iood_helpers.io import data_dir
from iood_helpers.model import checkpoints, safe_pickle
from iood_helpers.model.checkpoints import load_checkpoint

NANO = data_dir() / "checkpoints" / "nano.pth"


@pytest.fixture(scope="module")
def weights():
    return torch.load(NANO, weights_only=True)["state_dict"]


def saved(path, content, **options):
    torch.save(content, path, **options)
    return path


def same(found, wanted):
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name  # the same numbers, stored and read


# what beside the weights is in a file


def test_read_as_pytorch_reads(weights):
    same(load_checkpoint(NANO).state_dict, weights)


def test_the_older_layout_is_read(weights, tmp_path):
    path = saved(tmp_path / "old.pth", {"state_dict": weights}, _use_new_zipfile_serialization=False)
    same(load_checkpoint(path).state_dict, weights)


def test_shared_and_transposed_tensors_keep_their_numbers(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    content = {"a.weight": base, "b.weight": base.T, "c.weight": base[1:3, ::2], "d.bias": torch.tensor(3)}
    for layout in (True, False):
        path = saved(tmp_path / "views.pth", content, _use_new_zipfile_serialization=layout)
        same(load_checkpoint(path).state_dict, content)


def test_foreign_objects_are_neither_imported_nor_called(weights, tmp_path):
    """A class of a module that exists while writing, and whose import or use would be noticed while reading."""
    module = ModuleType("training_tool")
    source = "class Thing(dict):\n    def __reduce__(self): return make, (1,), {1: 2}, iter([3]), iter([(4, 5)])\n"
    source += "def make(n): return Thing()\n"
    exec(source, module.__dict__)
    module.Thing.__module__ = module.make.__module__ = "training_tool"
    sys.modules["training_tool"] = module
    try:
        meta = {"thing": module.Thing(), "score": np.float64(0.8), "array": np.arange(5), "log": HistoryBuffer([1.0])}
        path = saved(tmp_path / "x.pth", {"meta": meta | {"CLASSES": list(CLASS_NAMES)}, "state_dict": weights})
    finally:
        del sys.modules["training_tool"]
    loaded = load_checkpoint(path)
    same(loaded.state_dict, weights)
    assert "training_tool" not in sys.modules
    assert isinstance(loaded.meta["thing"], safe_pickle.StandIn) and loaded.meta["thing"].named == "training_tool.make"
    assert loaded.meta["CLASSES"] == list(CLASS_NAMES)


class Evil:
    def __init__(self, call, *arguments):
        self.reduced = call, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("call", [os.system, builtins.eval, builtins.exec, builtins.open, pickle.loads])
@pytest.mark.parametrize("layout", [True, False])
def test_files_that_name_code_are_refused_and_nothing_runs(weights, tmp_path, call, layout):
    canary = tmp_path / "canary"
    argument = f"touch {canary}" if call is os.system else f"__import__('os').mknod({str(canary)!r})"
    argument = argument.encode() if call is pickle.loads else argument
    content = {"state_dict": weights, "meta": {"x": Evil(call, argument)}}
    path = saved(tmp_path / "evil.pth", content, _use_new_zipfile_serialization=layout)
    with pytest.raises(CheckpointError, match=r"evil\.pth names .*could execute code"):
        load_checkpoint(path)
    assert not canary.exists()


def test_state_cannot_be_given_to_what_the_reader_uses(weights, tmp_path):
    """BUILD on the functions that rebuild tensors would change them for every later file."""
    before = dict(vars(safe_pickle._tensor))
    build = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb."
    (tmp_path / "x.pth").write_bytes(zipped(build))
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "x.pth")
    assert dict(vars(safe_pickle._tensor)) == before


def zipped(pickled, **members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", "3\n")
        for name, content in members.items():
            archive.writestr(f"a/data/{name}", content)
    return stream.getvalue()


# prefixes and averaged weights


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module.", "model.", "net.module."],
)
def test_names_lose_what_wrappers_put_before_them(weights, tmp_path, prefix):
    path = saved(tmp_path / "w.pth", {"state_dict": {prefix + name: tensor for name, tensor in weights.items()}})
    same(load_checkpoint(path).state_dict, weights)
    save_file({prefix + n: t.contiguous() for n, t in weights.items()}, tmp_path / "w.safetensors")
    same(load_checkpoint(tmp_path / "w.safetensors").state_dict, weights)


def test_a_compiled_part_loses_its_name_too(weights, tmp_path):
    inner = {name.replace("backbone.", "backbone._orig_mod."): tensor for name, tensor in weights.items()}
    same(load_checkpoint(saved(tmp_path / "w.pth", {"state_dict": inner})).state_dict, weights)


def test_averaged_weights(weights, tmp_path):
    other = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    both = saved(tmp_path / "both.pth", {"ema_state_dict": other, "state_dict": weights})
    same(load_checkpoint(both).state_dict, weights)  # mmengine's hook has exchanged them
    only = saved(tmp_path / "only.pth", {"state_dict_ema": other})
    same(load_checkpoint(only).state_dict, other)
    averaged = {f"module.{name}": tensor for name, tensor in weights.items()} | {"n_averaged": torch.tensor(7)}
    same(load_checkpoint(saved(tmp_path / "swa.pth", averaged)).state_dict, weights)
    copies = weights | {f"ema_{name.replace('.', '_')}": tensor + 1 for name, tensor in weights.items()}
    with pytest.warns(UserWarning, match="averaged weights .ema_.* not used"):
        same(load_checkpoint(saved(tmp_path / "old.pth", {"state_dict": copies})).state_dict, weights)


# precision


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_other_precisions_become_float32(weights, tmp_path, kind, suffix):
    stored = {name: (t.to(kind) if t.is_floating_point() else t).contiguous() for name, t in weights.items()}
    path = tmp_path / f"w.{suffix}"
    save_file(stored, path) if suffix == "safetensors" else torch.save({"state_dict": stored}, path)
    loaded = load_checkpoint(path)
    same(loaded.state_dict, {n: t.float() if t.is_floating_point() else t for n, t in stored.items()})
    assert loaded.stored == str(kind).removeprefix("torch.")
    assert all(t.dtype in (torch.float32, torch.int64) for t in loaded.state_dict.values())


def test_the_official_form(tmp_path):
    """Half precision, 150 rows, optimizer state and foreign objects: as the files of the model zoo are."""
    path = write_official_checkpoint(tmp_path / "upernet_internimage_nano_cityscapes.pth", "nano")
    stored = torch.load(path, weights_only=False)["state_dict"]
    loaded = load_checkpoint(path)
    same(loaded.state_dict, {n: t.float() if t.is_floating_point() else t for n, t in stored.items()})
    assert (loaded.size, loaded.num_classes, loaded.stored) == ("nano", 150, "float16")
    with pytest.warns(UserWarning, match="150 rows; the first 19"):
        segmenter = load_segmenter(path)
    prediction = segmenter.predict(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    assert np.isfinite(prediction.logits).all() and prediction.confidence.max() <= 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(weights, tmp_path, value):
    name = "backbone.patch_embed.conv1.weight"
    spoiled = {**weights, name: weights[name].clone()}
    spoiled[name][0, 0, 0, 0] = value
    with pytest.raises(CheckpointError, match=f"NaN or infinite weights in {name}"):
        load_checkpoint(saved(tmp_path / "w.pth", spoiled))


def test_weights_of_other_kinds_are_named(tmp_path):
    sparse = torch.eye(3).to_sparse()
    quantized = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    for tensor in (sparse, quantized, torch.ones(2, device="meta")):
        with pytest.raises(CheckpointError, match=r"w\.pth holds weights of a kind that is not read: a\.weight"):
            load_checkpoint(saved(tmp_path / "w.pth", {"a.weight": tensor, "b.weight": torch.ones(1)}))


# other classes


def other_classes():
    names = ("wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", *(f"thing {i}" for i in range(142)))
    return [{"CLASSES": names}, {"dataset_meta": {"classes": names}}, {"dataset_meta": {"CLASSES": list(names)}}]


@pytest.mark.parametrize("meta", other_classes())
def test_other_classes_are_refused_with_their_names(weights, tmp_path, meta):
    with pytest.raises(CheckpointError, match="than the 19 of Cityscapes: wall, building, sky.*150 in all"):
        load_checkpoint(saved(tmp_path / "w.pth", {"meta": meta, "state_dict": weights}))


def test_the_right_classes_are_taken_in_any_spelling(weights, tmp_path):
    for names in (
        CLASS_NAMES,
        [name.title() for name in CLASS_NAMES],
        (*CLASS_NAMES, "rest"),
        CLASS_NAMES[:1],
        None,
        (),
    ):
        load_checkpoint(saved(tmp_path / "w.pth", {"meta": {"CLASSES": names}, "state_dict": weights}))
    swapped = [CLASS_NAMES[1], CLASS_NAMES[0], *CLASS_NAMES[2:]]
    with pytest.raises(CheckpointError, match="other classes"):
        load_checkpoint(saved(tmp_path / "w.pth", {"meta": {"CLASSES": swapped}, "state_dict": weights}))


def test_ade20k_is_refused_by_name_and_by_checksum(tmp_path, monkeypatch):
    path = write_official_checkpoint(tmp_path / "upernet_internimage_t_512_160k_ade20k.pth", "nano", foreign=False)
    with pytest.raises(CheckpointError, match="trained on ADE20K"):
        load_checkpoint(path)
    path = path.rename(tmp_path / "mine.pth")
    assert load_checkpoint(path).num_classes == 150
    monkeypatch.setattr(checkpoints, "ADE20K", {checkpoints.file_sha256(path)})
    with pytest.raises(CheckpointError, match="trained on ADE20K"):
        load_checkpoint(path)


# damage and size


def test_a_file_cut_anywhere_is_named(weights, tmp_path):
    for layout in (True, False):
        whole = saved(
            tmp_path / "w.pth",
            {"a.weight": weights["backbone.patch_embed.conv1.weight"]},
            _use_new_zipfile_serialization=layout,
        ).read_bytes()
        for cut in range(0, len(whole) - 1, 97):
            (tmp_path / "cut.pth").write_bytes(whole[:cut])
            with pytest.raises(CheckpointError, match=r"cut\.pth"):
                load_checkpoint(tmp_path / "cut.pth")


def test_a_flipped_weight_is_noticed(tmp_path):
    path = saved(tmp_path / "w.pth", {"a.weight": torch.ones(1000)})
    content = bytearray(path.read_bytes())
    place = content.index(torch.ones(50).numpy().tobytes())
    content[place + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"<html><body>Please log in</body></html>", b"PK\x03\x04", bytes(100)]
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_what_is_no_checkpoint_is_named(tmp_path, content, suffix):
    (tmp_path / f"w.{suffix}").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"w\.{suffix} is damaged or not"):
        load_checkpoint(tmp_path / f"w.{suffix}")
    with pytest.raises(CheckpointError, match="neither a file nor a known name"):
        load_checkpoint(tmp_path)


def test_small_files_stay_small(tmp_path):
    """Pickles of some bytes that would fill the memory, and an archive that would grow a thousandfold."""
    huge = {
        "memo": b"\x80\x02}r\xff\xff\xff\x7f0N.",
        "bytearray": b"\x80\x02cbuiltins\nbytearray\n(\x8a\x06" + (4 * 10**10).to_bytes(6, "little") + b"tR.",
        "bytearray8": b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"x.",
        "binbytes8": b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"x.",
    }
    for name, pickled in huge.items():
        (tmp_path / f"{name}.pth").write_bytes(zipped(pickled))
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(tmp_path / f"{name}.pth")
    with zipfile.ZipFile(tmp_path / "deflated.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, 2))
        archive.writestr("a/data/0", bytes(50_000_000))
    with pytest.raises(CheckpointError, match="packed by another program"):
        load_checkpoint(tmp_path / "deflated.pth")


NESTED = b"N" + b"2\x86" * 40  # a tuple of a tuple twice, of a tuple twice, ...: 2**40 leaves
STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\n%sX\x03\0\0\0cpuK\x04tQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\0%s%s\x89NtR"


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02}" + NESTED + b"K\x01s.",
        b"\x80\x02}(" + NESTED + b"K\x01u.",
        b"\x80\x02(" + NESTED + b"K\x01d.",
        b"\x80\x04\x8f(" + NESTED + b"\x90.",
        b"\x80\x04(" + NESTED + b"\x91.",
        b"\x80\x02ccollections\nOrderedDict\n]" + NESTED + b"K\x01\x86a\x85R.",
        b"\x80\x02}X\x01\0\0\0a" + TENSOR % (NESTED, b"K\x04\x85", b"K\x01\x85") + b"s.",
    ],
)
def test_no_opcode_takes_more_than_its_length(tmp_path, pickled):
    """Hashing and printing what holds itself twice over."""
    (tmp_path / "w.pth").write_bytes(zipped(pickled))
    with pytest.raises(CheckpointError, match=r"w\.pth (is damaged|holds no state dict)"):
        load_checkpoint(tmp_path / "w.pth")


def test_tensors_and_classes_out_of_all_proportion(tmp_path):
    shape = b"(" + b"K\x01" * 65 + b"t"
    tensor = TENSOR % (b"X\x01\0\0\x000", shape, shape)
    cases = {b"c" + b"m" * 2000 + b"\nn\n": "a thousand letters", tensor: "an impossible shape"}
    for pickled, reason in cases.items():
        (tmp_path / "w.pth").write_bytes(zipped(b"\x80\x02" + pickled + b"."))
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(tmp_path / "w.pth")
        assert reason in str(caught.value.__cause__)


def test_nothing_but_the_readers_own_functions_is_called():
    reader = safe_pickle.Unpickler(io.BytesIO(), NANO)
    for function in (print, os.getcwd, dict, pickle.loads, "text", None):
        with pytest.raises(pickle.UnpicklingError, match="call of something else"):
            reader._call(function, ())


def test_a_registry_of_extensions_is_not_asked(tmp_path):
    copyreg.add_extension("os", "getcwd", 77)
    copyreg._extension_cache[77] = os.getcwd
    try:
        (tmp_path / "w.pth").write_bytes(zipped(b"\x80\x02}\x82M)Rs."))
        with pytest.raises(CheckpointError, match="damaged") as caught:
            load_checkpoint(tmp_path / "w.pth")
    finally:
        copyreg.remove_extension("os", "getcwd", 77)
        copyreg.clear_extension_cache()
    assert isinstance(caught.value.__cause__, KeyError)


def test_class_names_that_hold_themselves_are_not_printed(tmp_path):
    meta = b"X\x04\0\0\0meta}X\x07\0\0\0CLASSES]" + NESTED + b"as"
    weight = b"X\x01\0\0\0a" + TENSOR % (b"X\x01\0\0\x000", b"K\x04\x85", b"K\x01\x85")
    (tmp_path / "w.pth").write_bytes(zipped(b"\x80\x02}(" + meta + weight + b"u.", **{"0": bytes(16)}))
    with pytest.raises(CheckpointError, match=r"other classes than the 19 of Cityscapes: \?"):
        load_checkpoint(tmp_path / "w.pth")


def test_one_state_for_many_objects_is_kept_once(tmp_path):
    """A dictionary of a thousand items given to ten thousand objects: ten million copies, were they made."""
    large = b"}q\x01(" + b"".join(b"J" + i.to_bytes(4, "little") + b"N" for i in range(1000)) + b"u0"
    objects = b"ca\nb\n)\x81h\x01b" * 10_000 + b"ca\nb\nh\x01\x85R" * 10_000
    (tmp_path / "w.pth").write_bytes(zipped(b"\x80\x02" + large + b"](" + objects + b"e."))
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="no state dict"):
        load_checkpoint(tmp_path / "w.pth")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_one_storage_under_many_names_is_read_once_or_refused(tmp_path):
    base = torch.arange(1000.0)
    content = {f"w{i}": base[i : i + 10] for i in range(300)}
    path = saved(tmp_path / "w.pth", content)
    same(load_checkpoint(path).state_dict, content)
    for tensor in load_checkpoint(path).state_dict.values():
        assert tensor.untyped_storage().nbytes() == 40  # none keeps all of the storage
    path = saved(tmp_path / "w.pth", {f"w{i}": base for i in range(1000)})
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


def test_a_tensor_larger_than_what_is_stored_is_refused(tmp_path):
    """A view of one number a billion times, as a stride of zero would have it."""
    path = saved(tmp_path / "w.pth", {"a.weight": torch.ones(1).expand(1 << 30)})
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


def test_limits_can_be_set(monkeypatch):
    monkeypatch.setenv("IOOD_MAX_CHECKPOINT_GB", "0.001")
    with pytest.raises(CheckpointError, match="larger than 0.001 GiB; set IOOD_MAX_CHECKPOINT_GB"):
        load_checkpoint(NANO)


@pytest.mark.parametrize("opcode", [b"\x8d", b"\x8e", b"\x95"])  # a long text, long bytes, a frame
def test_lengths_beyond_the_file_are_not_asked_for(tmp_path, opcode):
    asked = []

    class Stream(io.BytesIO):
        def read(self, size=-1):
            asked.append(size)
            return super().read(min(size, 100))

    stream = Stream(b"\x80\x04" + opcode + (1 << 40).to_bytes(8, "little"))
    with pytest.raises((EOFError, pickle.UnpicklingError)):
        safe_pickle.Unpickler(stream, tmp_path / "w.pth").load()
    assert max(asked) <= 8


def test_a_pickle_without_an_end_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_pickle, "MAX_OPCODES", 1000)
    (tmp_path / "w.pth").write_bytes(zipped(b"\x80\x02" + b"}0" * 2000 + b"N."))
    with pytest.raises(CheckpointError, match="without an end"):
        load_checkpoint(tmp_path / "w.pth")


# downloads


@pytest.fixture
def server(tmp_path, monkeypatch):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    monkeypatch.setenv("IOOD_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "www").mkdir()
    running = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "www"))
    )
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield tmp_path / "www", f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    running.server_close()


def test_files_of_one_name_at_two_addresses_are_two(server, weights):
    folder, url = server
    for place, value in (("a", 1.0), ("b", 2.0)):
        (folder / place).mkdir()
        saved(folder / place / "best.pth", {"x.weight": torch.full((2,), value)})
    values = [load_checkpoint(f"{url}/{place}/best.pth").state_dict["x.weight"][0].item() for place in "aba"]
    assert values == [1.0, 2.0, 1.0]


def test_a_login_page_is_not_kept(server):
    folder, url = server
    (folder / "w.pth").write_text("<html>Please log in</html>")
    with pytest.raises(CheckpointError, match="not a checkpoint .a login page"):
        load_checkpoint(f"{url}/w.pth")
    saved(folder / "w.pth", {"x.weight": torch.ones(2)})
    assert load_checkpoint(f"{url}/w.pth").state_dict["x.weight"].tolist() == [1, 1]


def test_official_names_are_checked_against_their_checksums(server, monkeypatch):
    folder, url = server
    saved(folder / "w.pth", {"x.weight": torch.ones(2)})
    monkeypatch.setitem(checkpoints.OFFICIAL, "internimage-t-cityscapes", f"{url}/w.pth")
    with pytest.raises(CheckpointError, match="hash"):
        load_checkpoint("internimage-t-cityscapes")
    monkeypatch.setitem(checkpoints.SHA256, "internimage-t-cityscapes", checkpoints.file_sha256(folder / "w.pth"))
    assert load_checkpoint("internimage-t-cityscapes").state_dict["x.weight"].tolist() == [1, 1]


def test_official_names_and_addresses_belong_together():
    assert len(checkpoints.OFFICIAL) == 9
    assert checkpoints.OFFICIAL["internimage-xl-mapillary2cityscapes"] == (
        "hf://OpenGVLab/InternImage/upernet_internimage_xl_512x1024_160k_mapillary2cityscapes.pth"
    )


def test_checksums_hold_for_local_files_too():
    right = checkpoints.file_sha256(NANO)
    assert load_checkpoint(NANO, sha256=right.upper()).sha256 == right
    with pytest.raises(CheckpointError, match="instead of 0000"):
        load_checkpoint("nano", sha256="0" * 64)


@pytest.mark.parametrize("source", ["\0", "~nobody-of-this-name/w.pth", "x" * 5000, "", None, 3])
def test_sources_that_are_no_paths(source):
    with pytest.raises(CheckpointError, match="neither a file nor a known name"):
        load_checkpoint(source)


@pytest.mark.parametrize(
    "name",
    ["decode_head.conv_seg.weight", "backbone.patch_embed.conv2.weight", "decode_head.fpn_bottleneck.conv.weight"],
)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 1, 1)])
def test_shapes_that_no_network_has(weights, tmp_path, name, shape):
    path = saved(tmp_path / "w.pth", weights | {name: torch.zeros(shape)})
    assert load_checkpoint(path).state_dict[name].shape == shape
    with pytest.raises(CheckpointError):
        load_segmenter(path)


def test_numbers_in_names_may_have_any_length(tmp_path):
    state = {"backbone.patch_embed.conv2.weight": torch.zeros(24, 3, 3, 3)}
    state[f"backbone.levels.0.blocks.{'9' * 5000}.w"] = torch.zeros(1)
    assert load_checkpoint(saved(tmp_path / "w.pth", state)).size is None


def test_tensors_with_attributes_and_parameters_are_tensors(tmp_path):
    named = torch.arange(4.0)
    named.note = "of somebody"
    content = {"a": named, "b": torch.nn.Parameter(torch.ones(2)), "c": torch.zeros(0, 3)}
    same(load_checkpoint(saved(tmp_path / "w.pth", content)).state_dict, content)


def test_numbers_of_other_kinds_beside_the_weights_do_no_harm(weights, tmp_path):
    others = {"complex": torch.zeros(2, dtype=torch.complex64), "wide": torch.zeros(2, dtype=torch.uint16)}
    same(load_checkpoint(saved(tmp_path / "w.pth", {"state_dict": weights, "optimizer": others})).state_dict, weights)


def test_weights_with_and_without_a_prefix_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="twice"):
        load_checkpoint(saved(tmp_path / "w.pth", {"a.w": torch.ones(1), "a._orig_mod.w": torch.ones(1)}))


def test_a_limit_that_is_no_number(monkeypatch):
    monkeypatch.setenv("IOOD_MAX_CHECKPOINT_GB", "much")
    with pytest.raises(CheckpointError, match="'much'; give a number"):
        load_checkpoint(NANO)


def test_hyphens_and_capitals_in_class_names(weights, tmp_path):
    names = [name.replace(" ", "_").upper() for name in CLASS_NAMES]
    load_checkpoint(saved(tmp_path / "w.pth", {"meta": {"CLASSES": names}, "state_dict": weights}))
