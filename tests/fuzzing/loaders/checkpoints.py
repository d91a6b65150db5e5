"""Checkpoints: PyTorch files (zip, legacy) and safetensors.

A zip file has a checksum for each member, so what loads after a byte was damaged has to be what was saved. The legacy
format and safetensors have none: there only shapes and sizes can be judged.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from random import Random

import torch

from iood_helpers.model.checkpoints import load_checkpoint

from ..cases import Case, demand
from ..mutators import as_text, damaged, damaged_json, odd_text, zeros_deflated

MOST_BYTES = 2**28
"""Of tensors that are plausible: the originals have some ten thousand."""
MOST_CLASSES = 10_000


def prepare(folder: Path) -> dict:
    torch.manual_seed(0)
    state = {
        "backbone.patch_embed.conv2.weight": torch.randn(24, 12, 3, 3),
        "backbone.levels.0.blocks.0.norm1.0.weight": torch.randn(24),
        "decode_head.conv_seg.weight": torch.randn(19, 8, 1, 1),
        "decode_head.conv_seg.bias": torch.randn(19),
        "decode_head.steps": torch.tensor(3),
    }
    # The legacy format names storages by their address; one of them, renamed, makes the same file each time.
    whole_storage = torch.cat([tensor.flatten().float() for tensor in state.values()])
    parts = whole_storage.split([tensor.numel() for tensor in state.values()])
    shared = {name: part.view(state[name].shape) for name, part in zip(state, parts, strict=True)}
    meta = {"iter": 7, "CLASSES": ["road", "sidewalk"], "config": "a = 1\n"}
    originals = {}
    for kind, weights in (("zip", state), ("legacy", shared)):
        for name, content in (("whole", {"meta": meta, "state_dict": weights}), ("bare", weights)):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=kind == "zip")
            originals[f"{kind}-{name}"] = buffer.getvalue()
            if kind == "legacy":
                key = str(whole_storage.untyped_storage()._cdata).encode()
                originals[f"{kind}-{name}"] = buffer.getvalue().replace(key, b"9" * len(key))
    from safetensors.torch import save

    originals["safetensors"] = save(state, {"format": "pt"})
    for name, content in originals.items():  # imports what is imported late, and shows that the originals are fine
        path = folder / f"{name}{'.safetensors' if name == 'safetensors' else '.pth'}"
        path.write_bytes(content)
        load_checkpoint(path)
    return {"originals": originals, "state": state}


def make(material: dict, rng: Random, folder: Path) -> Case:
    originals = material["originals"]
    kind = rng.choice(("bytes", "bytes", "members", "pickle", "opcodes", "safetensors", "foreign", "bomb"))
    exact, suffix = False, rng.choice((".pth", ".pth", ".pt"))
    if kind == "bytes":
        name = rng.choice(list(originals))
        content, what = damaged(originals[name], rng, originals[rng.choice(list(originals))])
        what, exact = f"{what} of {name}", name.startswith("zip") and "splice" not in what and "append" not in what
        suffix = ".safetensors" if name == "safetensors" else suffix
    elif kind == "members":
        content, what = _members(originals[rng.choice(("zip-whole", "zip-bare"))], rng)
    elif kind == "pickle":
        content, what = _packed(rng.choice(_HOSTILE)(rng), rng)
    elif kind == "opcodes":
        content, what = _packed((_opcodes(rng), "random opcodes"), rng)
    elif kind == "safetensors":
        content, what = _safetensors(originals["safetensors"], rng)
        suffix = ".safetensors"
    elif kind == "foreign":
        content, what = rng.choice(_FOREIGN)
        suffix = rng.choice((".pth", ".safetensors"))
    else:
        content, what = _bomb(rng)
    path = folder / f"damaged{suffix}"
    path.write_bytes(content)
    state = material["state"] if exact else None
    return Case(
        f"{kind}: {what}", (path.name,), lambda: load_checkpoint(path), lambda found: _check(found, path, state)
    )


def _check(found, path: Path, state: dict | None) -> None:
    demand(found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest(), "the checksum is another file's")
    demand(found.state_dict and all(isinstance(name, str) for name in found.state_dict), "no names")
    sizes = 0
    for name, tensor in found.state_dict.items():
        demand(isinstance(tensor, torch.Tensor), f"{name} is no tensor")
        sizes += tensor.numel() * tensor.element_size()
        demand(
            sizes < MOST_BYTES, f"{name} has the shape {tuple(tensor.shape)}, in a file of {path.stat().st_size} bytes"
        )
        tensor.contiguous().clone()
    classes = found.num_classes
    demand(classes is None or (isinstance(classes, int) and 0 < classes < MOST_CLASSES), f"{classes} classes")
    if state is not None:
        same = found.state_dict.keys() == state.keys() and all(
            torch.equal(found.state_dict[name], tensor) for name, tensor in state.items()
        )
        demand(same, "a damaged zip file gives other weights")


def _members(original: bytes, rng: Random) -> tuple[bytes, str]:
    """A zip file with right checksums whose members are damaged, missing, doubled, renamed or compressed."""
    with zipfile.ZipFile(io.BytesIO(original)) as archive:
        members = [[item.filename, archive.read(item)] for item in archive.infolist()]
    at = rng.randrange(len(members))
    if rng.random() < 0.5:
        at = next(i for i, (name, _) in enumerate(members) if name.endswith("data.pkl"))
    name, content = members[at]
    action = rng.choice(("damage", "damage", "damage", "remove", "twice", "rename", "empty", "deflate", "other"))
    if action == "damage":
        members[at][1], action = damaged(content, rng, members[rng.randrange(len(members))][1])
    elif action == "remove":
        del members[at]
    elif action == "twice":
        members.append([name, damaged(content, rng)[0]])
    elif action == "rename":
        members[at][0] = rng.choice(("x", "../../x", "/x", "data.pkl", "archive/data.pkl", name + "\0", "a" * 70_000))[
            :65_000
        ]
    elif action == "empty":
        members[at][1] = b""
    elif action == "other":
        members[at][1] = members[rng.randrange(len(members))][1]
    method = zipfile.ZIP_DEFLATED if action == "deflate" or rng.random() < 0.1 else zipfile.ZIP_STORED
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for member in members:
            archive.writestr(*member)
    return buffer.getvalue(), f"{action} of {name}"


def _packed(pickled: tuple[bytes, str], rng: Random) -> tuple[bytes, str]:
    """A pickle as the heart of a zip file, of a legacy file, or alone."""
    content, what = pickled
    form = rng.choice(("zip", "zip", "legacy", "alone"))
    if form == "zip":
        content = zip_file(
            [("a/data.pkl", content), ("a/version", b"3\n"), ("a/data/0", bytes(64)), ("a/byteorder", b"little")]
        )
    elif form == "legacy":
        head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
        content = b"".join(pickle.dumps(part, 2) for part in head) + content + pickle.dumps([], 2)
    return content, f"{what} ({form})"


def zip_file(members: list[tuple], declared: int | None = None) -> bytes:
    """A zip file; a member (name, raw bytes, method, size) may lie about its size and has then no right checksum."""
    body, index = b"", b""
    for name, raw, *lie in members:
        method, size = lie or (0, len(raw))
        checksum = 0 if lie else zlib.crc32(raw)
        common = struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 33, checksum, len(raw), size, len(name), 0)
        index += b"PK\1\2" + struct.pack("<H", 20) + common
        index += struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\3\4" + common + name.encode() + raw
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(index), len(body), 0)
    return body + index + b"PK\5\6" + end


class _Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def _calls(rng: Random) -> tuple[bytes, str]:
    name = rng.choice(
        (
            *("os system", "posix system", "subprocess Popen", "subprocess call", "builtins eval", "builtins exec"),
            *("builtins __import__", "builtins getattr", "builtins open", "shutil rmtree", "webbrowser open"),
            *("pickle loads", "torch load", "torch.hub load", "runpy run_path", "code interact", "ctypes CDLL"),
            *("numpy.core.multiarray _reconstruct", "numpy load", "torch.serialization load", "pdb run"),
            *("torch._utils _rebuild_wrapper_subclass", "torch.jit._pickle restore_type_tag", "copyreg _reconstructor"),
        )
    )
    module, function = name.split()
    call = f"c{module}\n{function}\n".encode() + b"(X\x0c\0\0\0touch CANARYtR"
    if rng.random() < 0.5:
        return b"\x80\x02" + call + b".", f"a call of {name}"
    state = b"X\x06\0\0\0weight" + call
    return b"\x80\x02}(X\x0a\0\0\0state_dict}(" + state + b"uu.", f"a call of {name} in a state dict"


def _sizes(rng: Random) -> tuple[bytes, str]:
    huge = rng.choice((2**20, 2**31, 4 * 10**10, 2**62, 2**63))
    number = huge.to_bytes(9, "little")
    return rng.choice(
        (
            (b"\x80\x02cbuiltins\nbytearray\n(\x8a\x09" + number + b"tR.", f"bytearray({huge})"),
            (b"\x80\x02X" + struct.pack("<I", min(huge, 2**32 - 1)) + b"a.", "a long string"),
            (b"\x80\x04\x8d" + struct.pack("<Q", huge) + b"a.", "a very long string"),
            (b"\x80\x04\x8e" + struct.pack("<Q", huge) + b"a.", "very long bytes"),
            (b"\x80\x02\x8b" + struct.pack("<i", min(huge, 2**31 - 1)) + b"a.", "a long number"),
            (b"\x80\x02}r" + struct.pack("<I", min(huge, 2**32 - 1)) + b".", "a far memo"),
            (b"\x80\x04\x95" + struct.pack("<Q", huge) + b"}.", "a long frame"),
        )
    )


def _doubled(rng: Random) -> tuple[bytes, str]:
    """A list of twice a list of twice a list ...: small here, endless for whoever walks it.

    The same with tuples, which can be keys: their hash walks all the way, and so does a comparison of two of them.
    """
    depth = rng.choice((3, 30, 200, 2000))
    lists = b"0(h\0h\0lq\0" * depth
    tuples = b")" + b"q\0h\0\x86" * depth
    tower, what = rng.choice(((b"]q\0" + lists, "lists"), (tuples, "tuples")))
    weight = _plain("a") + _tensor_of((4,), 16)  # without one, the rest is not looked at
    place = rng.choice(("meta", "classes", "key", "two keys", "name", "shape"))
    items = {
        "meta": _plain("meta") + tower,
        "classes": _plain("meta") + b"}" + _plain("CLASSES") + tower + b"s",
        "key": tower + b"N",
        "two keys": (tower + b"N") * 2,
        "name": _plain("meta") + b"}" + tower + b"Ns",
        "shape": _plain("b") + _tensor_of(tower, 16),
    }[place]
    return b"\x80\x02}(" + weight + items + b"u.", f"{depth} doubled {what} as {place}"


def _tensor_of(size: tuple | bytes, number: int, kind: str = "FloatStorage") -> bytes:
    """Opcodes of a tensor of the storage "0"."""
    storage = (
        b"(X\x07\0\0\0storage" + f"ctorch\n{kind}\n".encode() + _plain("0") + _plain("cpu") + _plain(number) + b"tQ"
    )
    shape = size if isinstance(size, bytes) else _plain(size)
    rest = _plain(0) + shape + _plain((1,)) + b"\x89ccollections\nOrderedDict\n)RtR"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest


def _nested(rng: Random) -> tuple[bytes, str]:
    depth = rng.choice((500, 50_000))
    opening, closing = rng.choice(((b"(", b"t"), (b"(", b"l"), (b"}X\1\0\0\0a", b"s")))
    return b"\x80\x02" + opening * depth + (
        b"K\1" if opening[:1] == b"}" else b""
    ) + closing * depth + b".", f"{depth} deep"


def _cycle(rng: Random) -> tuple[bytes, str]:
    return b"\x80\x02}q\0(X\x04\0\0\0metah\0X\x0a\0\0\0state_dicth\0u.", "a dictionary in itself"


def _tensors(rng: Random) -> tuple[bytes, str]:
    """Tensors whose sizes, strides and storages do not fit, or fit by saying the same number again and again."""
    size = rng.choice(([10**5, 10**5], [2**40], [0], [], [-1], [3, 3], [2**62, 4], [10**9, 1, 1, 1], [16], ["x"], None))
    stride = rng.choice(([0] * len(size or []), [1] * len(size or []), [-1], [2**62], None, [1, 1]))
    length = rng.choice((16, 0, -1, 2**31, 2**62, 10**11, "x", None))
    offset = rng.choice((0, 0, 0, -1, 15, 2**62, None))
    kind = rng.choice(
        ("FloatStorage", "FloatStorage", "ByteStorage", "QInt8Storage", "BFloat16Storage", "Float8Storage")
    )
    storage = (
        b"(X\x07\0\0\0storage"
        + f"ctorch\n{kind}\n".encode()
        + _plain(rng.choice(("0", "0", "9", "../0", 0)))
        + _plain("cpu")
        + _plain(length)
        + b"tQ"
    )
    function = rng.choice(
        ("_rebuild_tensor_v2", "_rebuild_tensor_v2", "_rebuild_tensor", "_rebuild_parameter", "_rebuild_qtensor")
    )
    arguments = (
        storage + _plain(offset) + _plain(size, True) + _plain(stride, True) + b"\x89ccollections\nOrderedDict\n)R"
    )
    tensor = f"ctorch._utils\n{function}\n".encode() + b"(" + arguments + b"tR"
    name = rng.choice(("decode_head.conv_seg.weight", "backbone.patch_embed.conv2.weight", "a"))
    what = f"{name}: {function} {kind} size {size} stride {stride} offset {offset} of {length}"
    return b"\x80\x02}(" + _plain(name) + tensor + b"u.", what


def _plain(value, as_tuple: bool = False) -> bytes:
    """Opcodes of a plain value."""
    if as_tuple and isinstance(value, list):
        value = tuple(value)
    return pickle.dumps(value, 2)[2:-1]


def _copies(rng: Random) -> tuple[bytes, str]:
    """One dictionary or tuple, copied thousands of times by a few bytes each."""
    keys = rng.choice((10, 50_000))
    many = rng.choice((10, 20_000))
    kind = rng.choice((b"ccollections\nOrderedDict\n", b"ctorch\nSize\n"))
    items = b"".join(b"J" + struct.pack("<i", n) + b"N" for n in range(keys))
    first = b"}(" + items + b"uq\0" if kind.startswith(b"ccoll") else b"(" + items + b"tq\0"
    again = b"(h\0tR"
    body = first + b"0" + kind + b"q\1" + b"0]q\2(" + (b"h\1" + again) * many + b"e."
    return b"\x80\x02" + body, f"{many} copies of {keys} items"


def _steps(rng: Random) -> tuple[bytes, str]:
    """A pickle that is long and does nothing."""
    step = rng.choice((b"N0", b")0", b"}0", b"K\x010", b"(1", b"N2010"[:2]))
    number = rng.choice((1000, 2_000_000))
    return b"\x80\x02" + step * number + b"}.", f"{number} x {step!r}"


def _shared(rng: Random) -> tuple[bytes, str]:
    """Many tensors of one storage; see ``_packed`` for its 64 bytes."""
    size, many = rng.choice(((16,), (4,), (1,))), rng.choice((3, 1000))
    items = b"".join(_plain(f"a{n}") + _tensor_of(size, 16) for n in range(many))
    return b"\x80\x02}(" + items + b"u.", f"{many} tensors of one storage"


def _state(rng: Random) -> tuple[bytes, str]:
    """A checkpoint of plain values where weights should be."""
    value = rng.choice(
        (None, 1, "x", [], {}, [1], {"a": 1}, {"a": None}, {1: 2}, {("a",): 1}, {"state_dict": {"a": []}})
    )
    content = rng.choice((value, {"state_dict": value}, {"model": value, "meta": value}, {"state_dict_ema": value}))
    return pickle.dumps(content, 2), f"plain values {content!r}"


def _builds(rng: Random) -> tuple[bytes, str]:
    """Objects whose state is set from the file."""
    return rng.choice(
        (
            (
                b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\0\0\0itemsX\1\0\0\0xsb.",
                "items of an OrderedDict replaced",
            ),
            (b"\x80\x02ccollections\nOrderedDict\n(K\x03tR.", "OrderedDict(3)"),
            (b"\x80\x02ccollections\nOrderedDict\n)R}X\x09\0\0\0__class__K\1sb.", "a class replaced"),
            (b"\x80\x02ccollections\nCounter\n(X\1\0\0\0atR.", "a Counter"),
            (b"\x80\x02ctorch\nSize\n(](J\xff\xff\xff\xff" + b"etR.", "a negative size"),
            (b"\x80\x02ctorch\ndevice\n(X\4\0\0\0cudatR.", "a device"),
            (b"\x80\x02c__builtin__\nset\n(](]etR.", "a set of lists"),
            (b"\x80\x02}K\1\x85K\2sb.", "BUILD on nothing"),
            (b"\x80\x02(X\7\0\0\0storageNNNNtQ.", "a storage of nothing"),
            (b"\x80\x02NQ.", "a persistent id of nothing"),
            (b"\x80\x020.", "POP on nothing"),
            (b"\x80\x02X\1", "cut in a number"),
            (b"\x80\x02cno.such.module\nx\n)R.", "an unknown module"),
        )
    )


_HOSTILE = (
    _copies,
    _steps,
    _shared,
    _calls,
    _calls,
    _calls,
    _sizes,
    _doubled,
    _nested,
    _cycle,
    _tensors,
    _tensors,
    _tensors,
    _state,
    _builds,
)


def _opcodes(rng: Random) -> bytes:
    """Opcodes that the reader knows, in any order."""
    pieces = (
        *(
            b"}",
            b"]",
            b")",
            b"(",
            b"t",
            b"l",
            b"d",
            b"u",
            b"e",
            b"s",
            b"a",
            b"b",
            b"R",
            b"0",
            b"2",
            b"N",
            b"Q",
            b"\x81",
        ),
        *(b"\x85", b"\x86", b"\x87", b"\x88", b"\x89", b"K\1", b"M\1\1", b"J\1\1\1\1", b"X\1\0\0\0a", b"q\0", b"h\0"),
        *(b"G" + bytes(8), b"\x8a\1\1", b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n"),
        *(b"ctorch\nFloatStorage\n", b"c__builtin__\nset\n", b"ctorch\nSize\n", b"\x94", b"\x8c\1a", b"\x93"),
        *(b"X\7\0\0\0storage", b"X\1\0\0\x000", b"X\3\0\0\0cpu", b"ctorch._utils\n_rebuild_parameter\n"),
    )
    return (
        b"\x80\x02" + b"".join(rng.choice(pieces) for _ in range(rng.randrange(1, 25))) + rng.choice((b".", b".", b""))
    )


def _safetensors(original: bytes, rng: Random) -> tuple[bytes, str]:
    end = 8 + int.from_bytes(original[:8], "little")
    header, data = json.loads(original[8:end]), original[end:]
    if rng.random() < 0.75:
        header, what = damaged_json(header, rng)
        text = as_text(header)
    else:
        text, what = odd_text(rng)
    length = len(text)
    if rng.random() < 0.15:
        length = rng.choice((0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1, 100_000_001))
        what += f", {length} bytes announced"
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data))]
    return max(0, length).to_bytes(8, "little") + text + data, what


def _bomb(rng: Random) -> tuple[bytes, str]:
    """Little on the disk, much in memory."""
    if rng.random() < 0.3:
        number, many, kind = 2**21, rng.choice((2, 1000)), rng.choice(("FloatStorage", "HalfStorage"))
        size = rng.choice(((number,), (1,), (1000,)))
        items = b"".join(_plain(f"a{n}") + _tensor_of(size, number, kind) for n in range(many))
        pickled = b"\x80\x02}(" + items + b"u."
        data = bytes(number * (4 if kind == "FloatStorage" else 2))
        members = [("a/data.pkl", pickled), ("a/version", b"3\n"), ("a/data/0", data)]
        return zip_file(members), f"{many} tensors {size} of one {kind} of {number}"
    megabytes = rng.choice((200, 1500, 4000))
    raw, size = zeros_deflated(megabytes, raw=True), min(megabytes * 2**20, 2**32 - 1)
    where = rng.choice(("a/data.pkl", "a/data/0", "a/version", "a/byteorder"))
    members = {
        "a/data.pkl": (b"\x80\x02}(" + _plain("a") + _tensor_of((size // 4,), size // 4) + b"u.",),
        "a/version": (b"3\n",),
        "a/data/0": (bytes(64),),
        "a/byteorder": (b"little",),
    }
    members[where] = (raw, 8, size)
    return zip_file([(name, *member) for name, member in members.items()]), f"{megabytes} MB of zeros in {where}"


_FOREIGN = (
    (b"", "nothing"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 34\n", "a pointer of Git LFS"),
    (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
    (b"PK\5\6" + bytes(18), "an empty zip file"),
    (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    (b"GGUF" + bytes(100), "GGUF"),
    (b"\x1f\x8b\x08" + bytes(100), "gzip"),
    (b"ustar" * 200, "something like a tar"),
    (bytes(10_000), "zeros"),
    (b"\x80\x02" * 5000, "protocols"),
)
