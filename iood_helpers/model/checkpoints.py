"""From a name, path or address to a checked state dict, without executing anything that the file contains.

Sources: file names, sizes and checksums as in the InternImage model zoo (Hugging Face ``OpenGVLab/InternImage``); the
layout of the files (``state_dict``, ``meta``) is mmengine's.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..datasets.labels import CLASS_NAMES
from ..errors import CheckpointError
from ..io import data_dir
from . import efficientvit_zoo, hub
from .hub import file_sha256
from .safe_pickle import StandIn, StoredTensor
from .sizes import SIZES
from .torch_format import max_bytes, opened

_HUB = "hf://OpenGVLab/InternImage/"
SHIPPED = {"nano": "nano.pth", "nano-camvid": "nano-camvid.pth"}
SHA256 = {
    "internimage-t-cityscapes": "d609235bd49cc00ebf56b3277ce69f88b1c27b8427e3317ba7ae981da052e052",
    "internimage-s-cityscapes": "24155b8dabdbab1d6e7318db57ec563e0253fd1b1c7fde5ac2d2bac75517f5c7",
    "internimage-b-cityscapes": "55bc153c6d677abb8241a9c7414a11ded1acca0323109976b1523afd77d2d716",
    "internimage-l-cityscapes": "59808301f09cbd09796127a1d0ab7a294be4c961fd726c4716d931016e3ed7a0",
    "internimage-xl-cityscapes": "ff087c60232a24b48cfb1547b00fe8756c8a93c72d779a22b8294b855302ce41",
    "internimage-l-mapillary2cityscapes": "6df1621a686521be0ab59f393968bb2c443e6a10381c06d8097411cc0400916a",
    "internimage-xl-mapillary2cityscapes": "9fd1e8e24d776c34a601eade5b47a6e3751ea5c9eec15bf7fcbbabdf036f7c95",
}
"""Checksums of the official files; all of them are in half precision (XL: 736 MB)."""
OFFICIAL = {
    name: f"{_HUB}upernet_internimage_{size}_512x1024_160k_{data}.pth"
    for name in SHA256
    for _, size, data in [name.split("-")]
}
OFFICIAL |= efficientvit_zoo.URLS
SHA256 |= efficientvit_zoo.SHA256
"""Checksums and addresses of official checkpoints. Not reachable while this was written, so never opened by a test."""

ADE20K = {
    "4b9b7b356d69fb574ce8e722406e3c5198c1583f0c733e1778b86dcfb43b3e32",
    "a03cd5f03fecea9b15ba7772fc30ba86b95da5c2e4e8c0faeb812580bb914fb3",
    "faa267979fcdd68fe15f5dd850a033ae89da369bde84b4d32acb10ef8b934699",
    "7e76cd62142c55fc59756887b535116a81462271c9ac05d785782896028b0556",
}
"""Checksums of official files with the 150 classes of ADE20K, which have the shapes of the Cityscapes ones."""

STATE_KEYS = ("state_dict", "state_dict_ema", "model", "model_state_dict", "ema_state_dict")
"""Where the weights may be, the first one wins: with mmengine's EMA hook, ``state_dict`` holds the averaged weights."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "segmentor.", "ema_model.", "online_model.")
MAX_PREFIXES = 8
MAPPED_BYTES = 1 << 24
CHECKED_AT_ONCE = 1 << 20
"""Numbers; looking at all of a large weight takes as much memory as the weight."""
_SAFETENSORS_DAMAGE = (
    *(SafetensorError, OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError, MemoryError),
)


@dataclass(frozen=True)
class Checkpoint:
    """Weights read from a file.

    Attributes
    ----------
    path : Path
    sha256 : str
        Checksum of the file, 64 hexadecimal digits.
    state_dict : dict of str to Tensor
        Parameters by name, on the CPU; floating-point ones are float32, whatever the file holds.
    meta : Mapping
        What the file says of itself (plain values; foreign objects are stand-ins that do nothing).
    size : str or None
        Name of the size that the weights fit: "nano", "t", ..., "xl" of InternImage, "efficientvit-b0".
    num_classes : int or None
        Rows of the (last) classifier; None if there is none.
    stored : str
        Precision of the weights in the file: "float16", "float32", ...
    """

    path: Path
    sha256: str
    state_dict: dict[str, Tensor]
    meta: Mapping
    size: str | None
    num_classes: int | None
    stored: str = "float32"


def known_checkpoints() -> list[str]:
    """Names that :func:`find_checkpoint` knows.

    ``nano`` and ``nano-camvid`` ship with the project (their cards tell the licences). ``internimage-*`` (MIT) and
    ``efficientvit-*`` (Apache-2.0) are their authors', trained on Cityscapes, whose terms are non-commercial.
    """
    return [*SHIPPED, *OFFICIAL]


def find_checkpoint(source: str | Path, sha256: str | None = None) -> Path:
    """File of a checkpoint; downloaded once if the source is an address, or an official name that ``IOOD_DATA`` lacks.

    Parameters
    ----------
    source : str or Path
        A name of :func:`known_checkpoints`, a path, or an address: ``hf://owner/repo/file``, ``https://...``
        (:mod:`.hub` tells where files are kept).
    sha256 : str, optional
        Expected checksum, 64 hexadecimal digits. Without it any file is accepted, except for official names, whose
        checksums are known.

    Returns
    -------
    Path

    Raises
    ------
    CheckpointError
        If the name is unknown, the file does not exist, or the download fails or has another checksum.
    """
    return _find(source, sha256)[0]


def _find(source: str | Path, sha256: str | None) -> tuple[Path, bool]:
    """File of a checkpoint, and whether it was downloaded, so that it may be dropped."""
    text = str(source)
    if local := efficientvit_zoo.below_data_root(text):
        return local, False
    if hub.is_remote(address := OFFICIAL.get(text, text)):
        return hub.fetch(address, sha256 or SHA256.get(text)), True
    try:
        path = data_dir() / "checkpoints" / SHIPPED[text] if text in SHIPPED else Path(text).expanduser()
        found = path.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, "~" of an unknown user
        found = False
    if not found:
        raise CheckpointError(
            f"The checkpoint {text[:200]} is neither a file nor a known name; known names are "
            f"{', '.join(known_checkpoints())}."
        )
    return path, False


def load_checkpoint(source: str | Path, sha256: str | None = None) -> Checkpoint:
    """Read a checkpoint's weights; nothing inside the file is executed.

    Parameters
    ----------
    source, sha256
        As in :func:`find_checkpoint`. PyTorch and safetensors files are read, whatever their names end in.

    Returns
    -------
    Checkpoint

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, larger than ``IOOD_MAX_CHECKPOINT_GB`` (16 by default), names code, has no
        state dict, has weights that are NaN, infinite, sparse or quantized, or was trained for other classes than
        the 19 of Cityscapes.
    """
    path, downloaded = _find(source, sha256)
    sha256 = sha256 or SHA256.get(str(source)) or (hub.recorded_sha256(path) if downloaded else None)
    if path.stat().st_size > max_bytes():
        raise CheckpointError(
            f"The checkpoint {path} is larger than {max_bytes() / 2**30:g} GiB; set IOOD_MAX_CHECKPOINT_GB "
            "if you trust it."
        )
    try:
        loaded = _load(path)
        if sha256 and loaded.sha256 != sha256.lower():
            raise CheckpointError(
                f"The checkpoint {path} has the checksum {loaded.sha256} instead of {sha256}; get the right file."
            )
    except CheckpointError as error:
        if not downloaded:
            raise
        hub.forget(path)
        raise CheckpointError(f"{error} The download was dropped; the next call fetches it anew.") from error
    except OSError as error:
        raise CheckpointError(f"The checkpoint {path} cannot be read ({error}); check its permissions.") from error
    _refuse_other_classes(loaded)
    return loaded


def _load(path: Path) -> Checkpoint:
    checksum = file_sha256(path)
    safetensors = path.suffix == ".safetensors" or _start(path)[8:] == b"{"
    state, meta, stored = (_read_safetensors if safetensors else _read_torch)(path)
    if not state:
        raise _no_weights(path)
    state = efficientvit_zoo.mmseg_names(state)
    size = guess_size(state) or efficientvit_zoo.guess_size(state)
    return Checkpoint(path, checksum, state, meta, size, _rows(state), stored)


def _no_weights(path: Path) -> CheckpointError:
    return CheckpointError(f"The checkpoint {path} holds no state dict; give a file with weights.")


def _rows(state: Mapping[str, Tensor]) -> int | None:
    """Rows of the classifier that decides: the last one of a cascade."""
    found = [tensor for name, tensor in state.items() if re.fullmatch(r"decode_head\.(.*\.)?conv_seg\.weight", name)]
    return found[-1].shape[0] if found and found[-1].ndim == 4 else None


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(9)


def _read_torch(path: Path) -> tuple[dict[str, Tensor], Mapping, str]:
    with opened(path) as file:
        content = file.content
        if not isinstance(content, dict):
            raise _no_weights(path)
        meta = content.get("meta", {})
        weights = next((content[key] for key in STATE_KEYS if isinstance(content.get(key), dict)), content)
        foreign = [f"{name} ({value.named})" for name, value in weights.items() if isinstance(value, StandIn)]
        if foreign and any(str(name).endswith((".weight", ".bias")) for name in weights):
            raise CheckpointError(
                f"The checkpoint {path} holds weights of a kind that is not read: {', '.join(foreign[:3])}; "
                "convert them to plain tensors."
            )
        tensors = {k: v for k, v in weights.items() if isinstance(k, str) and isinstance(v, StoredTensor)}
        names = _plain_names(list(tensors), path)
        stored = {name: tensors[key] for key, name in names.items()}
        read = {name: _checked(name, tensor, path) for name, tensor in file.read(stored)}
    state = {name: read[name] for name in stored}  # in the order of the file
    return state, _mapping(meta), _precision(value.dtype for value in stored.values())


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Mapping, str]:
    state: dict[str, Tensor] = {}
    kinds = set()
    try:
        with safe_open(str(path), "pt") as file:
            names, meta = list(_plain_names(list(file.keys()), path).items()), file.metadata() or {}
        while len(state) < len(names):
            # closed and opened again: the pages of a mapped file stay in memory as long as it is open
            with safe_open(str(path), "pt") as file:
                read = 0
                for key, name in names[len(state) :]:
                    tensor = file.get_tensor(key)
                    kinds.add(tensor.dtype)
                    checked = _checked(name, tensor, path)
                    state[name] = checked.clone() if checked is tensor else checked
                    read += tensor.nbytes
                    if read > MAPPED_BYTES:
                        break
    except _SAFETENSORS_DAMAGE as error:
        raise CheckpointError(
            f"The checkpoint {path} is damaged or not a safetensors file; download it again."
        ) from error
    return state, meta, _precision(kinds)


def _plain_names(keys: list[str], path: Path) -> dict[str, str]:
    """Key of each weight to its name in the model: without the prefixes of wrappers, however many."""
    copies = [key for key in keys if key.startswith("ema_") and "." not in key]
    if copies:
        warnings.warn(f"The checkpoint {path} also holds averaged weights (ema_...), which are not used.", stacklevel=4)
    left_out = {*copies, *(key for key in keys if key.endswith("n_averaged"))}
    names = {key: key.replace("_orig_mod.", "") for key in keys if key not in left_out}
    for _ in range(MAX_PREFIXES):
        prefix = next((p for p in PREFIXES if names and all(name.startswith(p) for name in names.values())), "")
        names = {key: name.removeprefix(prefix) for key, name in names.items()}
    if len(set(names.values())) < len(names):
        raise CheckpointError(
            f"The checkpoint {path} holds weights twice, with and without a prefix; keep one of them."
        )
    return names


def _checked(name: str, tensor: Tensor, path: Path) -> Tensor:
    """The weight, finite, as float32 if it is of a floating-point type."""
    if not tensor.is_floating_point():
        return tensor
    tensor = tensor.float()
    if not all(torch.isfinite(part).all() for part in tensor.reshape(-1).split(CHECKED_AT_ONCE)):
        raise CheckpointError(f"The checkpoint {path} holds NaN or infinite weights in {name}; training had failed.")
    return tensor


def _precision(kinds: Any) -> str:
    fractions = {str(kind).removeprefix("torch.") for kind in kinds if kind.is_floating_point}
    return ", ".join(sorted(fractions)) or "none"


def _mapping(value: Any) -> Mapping:
    """The items of a dictionary, or of a stand-in for a foreign kind of dictionary."""
    value = value.items if isinstance(value, StandIn) else value
    return value if isinstance(value, Mapping) else {}


def _refuse_other_classes(loaded: Checkpoint) -> None:
    meta = loaded.meta
    places = (meta, _mapping(meta.get("dataset_meta")))
    given = next((place[key] for place in places for key in ("CLASSES", "classes") if place.get(key)), None)
    if isinstance(given, list | tuple) and given:
        names = [_spelt(name) for name in given[: len(CLASS_NAMES)]]
        if names != list(CLASS_NAMES[: len(names)]):
            raise CheckpointError(
                f"The checkpoint {loaded.path} was trained for other classes than the 19 of Cityscapes: "
                f"{', '.join(names[:8])}, ... ({len(given)} in all); choose one trained on Cityscapes."
            )
    named = "ade20k" in loaded.path.name.lower() and "cityscapes" not in loaded.path.name.lower()
    if loaded.sha256 in ADE20K or (named and loaded.num_classes == 150):
        raise CheckpointError(
            f"The checkpoint {loaded.path} is trained on ADE20K, whose 150 classes are not those of Cityscapes; "
            "choose one trained on Cityscapes."
        )


def _spelt(name: Any) -> str:
    """The name of a class as this package writes it: spaces for hyphens and underscores, lower case."""
    return " ".join(re.split(r"[\s_-]+", name[:40].lower())) if isinstance(name, str) else "?"


def guess_size(state: dict[str, Tensor]) -> str | None:
    """Name of the InternImage size whose width and depths the weights have, or None."""
    stem = state.get("backbone.patch_embed.conv2.weight")
    if stem is None or stem.ndim != 4:
        return None
    pattern = re.compile(r"backbone\.levels\.([0-3])\.blocks\.([0-9]{1,4})\.")
    found = {(int(m[1]), int(m[2])) for name in state if (m := pattern.match(name))}
    depths = tuple(sum(level == i for level, _ in found) for i in range(4))
    for size, config in SIZES.items():
        if (config["channels"], tuple(config["depths"])) == (stem.shape[0], depths):
            return size
    return None


def load_strictly(model: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Give the model the weights; every name and shape must fit. Model and checkpoint share them afterwards.

    Raises
    ------
    CheckpointError
        Naming missing and unexpected parameters and wrong shapes, and the size that the weights look like.
    """
    own, given = model.state_dict(), checkpoint.state_dict
    both = [name for name in own if name in given]
    found = {
        "missing": [name for name in own if name not in given],
        "unexpected": [name for name in given if name not in own],
        "of another shape": [
            f"{name} {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
            for name in both
            if given[name].shape != own[name].shape
        ],
        "of another type": [
            f"{name} of {given[name].dtype}"
            for name in both
            if given[name].is_floating_point() != own[name].is_floating_point()
        ],
    }
    problems = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in found.items()
        if names
    ]
    if problems:
        looks = f"it looks like size {checkpoint.size!r}" if checkpoint.size else "its size is not a known one"
        raise CheckpointError(
            f"The checkpoint {checkpoint.path} does not fit the model: {'; '.join(problems)}; {looks}, "
            "so choose the config that belongs to it."
        )
    weights = {name: given[name].to(tensor.dtype) for name, tensor in own.items()}
    model.load_state_dict(weights, strict=True, assign=True)  # not copied: a large model would be in memory twice
