"""From a name, path or URL to a checked state dict, without executing anything that the file contains.

Sources: file names and repository as in the InternImage model zoo (Hugging Face ``OpenGVLab/InternImage``); the layout
of the files (``state_dict``, ``meta``) is mmengine's.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .configs import SIZES
from .errors import CheckpointError
from .paths import cache_dir, checkpoints_dir

_HUB = "https://huggingface.co/OpenGVLab/InternImage/resolve/main/"
SHIPPED = {"nano": "nano.pth", "nano-camvid": "nano-camvid.pth"}
OFFICIAL = {
    **{
        f"internimage-{size}-cityscapes": f"{_HUB}upernet_internimage_{size}_512x1024_160k_cityscapes.pth"
        for size in ("t", "s", "b", "l", "xl")
    },
    **{
        f"internimage-{size}-mapillary2cityscapes": (
            f"{_HUB}upernet_internimage_{size}_512x1024_160k_mapillary2cityscapes.pth"
        )
        for size in ("l", "xl")
    },
}
"""Names of official checkpoints and where they are. Not reachable while this was written, so never opened by a test."""

STATE_KEYS = ("state_dict", "state_dict_ema", "model")


@dataclass(frozen=True)
class Checkpoint:
    """Weights read from a file.

    Attributes
    ----------
    path
        The file.
    sha256
        Its checksum, 64 hexadecimal digits.
    state_dict
        Parameter name to tensor (CPU).
    meta
        What the file says of itself (only plain values are kept).
    size
        Name of the InternImage size that the weights fit ("nano", "t", ..., "xl"), or None.
    num_classes
        Rows of the classifier (``decode_head.conv_seg``), or None if there is none.
    """

    path: Path
    sha256: str
    state_dict: dict[str, Tensor]
    meta: dict
    size: str | None
    num_classes: int | None


def known_checkpoints() -> list[str]:
    """Names that :func:`find_checkpoint` knows."""
    return [*SHIPPED, *OFFICIAL]


def find_checkpoint(source: str | Path, sha256: str | None = None) -> Path:
    """File of a checkpoint; downloads it once if the source is a URL or an official name.

    Parameters
    ----------
    source
        A name of :func:`known_checkpoints`, a path, or an http(s) URL.
    sha256
        Expected checksum of a download, 64 hexadecimal digits; None accepts any file.

    Raises
    ------
    CheckpointError
        If the name is unknown, the file does not exist, or the download fails or has another checksum.
    """
    text = str(source)
    if text in SHIPPED:
        path = checkpoints_dir() / SHIPPED[text]
    elif text in OFFICIAL or re.match(r"https?://", text):
        return _download(OFFICIAL.get(text, text), sha256)
    else:
        path = Path(source).expanduser()
    if not path.is_file():
        raise CheckpointError(
            f"The checkpoint {text} is neither a file nor a known name; known names are "
            f"{', '.join(known_checkpoints())}."
        )
    return path


def _download(url: str, sha256: str | None) -> Path:
    import pooch

    folder = cache_dir() / "checkpoints"
    name = Path(url.split("?")[0]).name
    try:
        found = pooch.retrieve(
            url,
            known_hash=f"sha256:{sha256}" if sha256 else None,
            fname=name,
            path=folder,
            progressbar=True,
        )
    except Exception as error:  # pooch passes on whatever the network raised
        raise CheckpointError(
            f"The checkpoint {url} could not be downloaded ({error}); fetch it by hand, put it at {folder / name}, "
            "or give its path instead."
        ) from error
    return Path(found)


def load_checkpoint(source: str | Path, sha256: str | None = None) -> Checkpoint:
    """Read a checkpoint's weights; code inside the file is refused, not executed.

    Parameters
    ----------
    source, sha256
        As in :func:`find_checkpoint`; ``.pth``/``.pt`` (PyTorch) and ``.safetensors`` files are read.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, holds anything but weights and plain values, or has no state dict.
    """
    path = find_checkpoint(source, sha256)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    state, meta = _state_dict(content, path)
    head = state.get("decode_head.conv_seg.weight")
    return Checkpoint(
        path=path,
        sha256=file_sha256(path),
        state_dict=state,
        meta=meta,
        size=guess_size(state),
        num_classes=None if head is None else head.shape[0],
    )


def _read_torch(path: Path) -> dict:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if any(word in str(error) for word in ("GLOBAL", "Unsupported class", "Unsupported global")):
            raise CheckpointError(
                f"The checkpoint {path} holds Python objects that could execute code, so it was not loaded; "
                "ask its author for a file with tensors only, or convert it to safetensors where you trust it."
            ) from error
        raise CheckpointError(f"The checkpoint {path} is damaged or not a PyTorch file; download it again.") from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        zipfile.BadZipFile,
    ) as error:
        raise CheckpointError(f"The checkpoint {path} is damaged or not a PyTorch file; download it again.") from error


def _read_safetensors(path: Path) -> dict:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"The checkpoint {path} is damaged or not a safetensors file; download it again."
        ) from error


def _state_dict(content: object, path: Path) -> tuple[dict[str, Tensor], dict]:
    if not isinstance(content, dict):
        raise CheckpointError(f"The checkpoint {path} holds no state dict; give a file with weights.")
    meta = content.get("meta", {})
    for key in STATE_KEYS:
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    state = {str(k).removeprefix("module."): v for k, v in content.items() if isinstance(v, Tensor)}
    if not state:
        raise CheckpointError(f"The checkpoint {path} holds no state dict; give a file with weights.")
    return state, meta if isinstance(meta, dict) else {}


def guess_size(state: dict[str, Tensor]) -> str | None:
    """Name of the InternImage size whose width and depths the weights have, or None."""
    stem = state.get("backbone.patch_embed.conv2.weight")
    if stem is None:
        return None
    pattern = re.compile(r"backbone\.levels\.(\d)\.blocks\.(\d+)\.")
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
    own = model.state_dict()
    missing = [name for name in own if name not in checkpoint.state_dict]
    unexpected = [name for name in checkpoint.state_dict if name not in own]
    shapes = [
        f"{name} {tuple(checkpoint.state_dict[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in checkpoint.state_dict and checkpoint.state_dict[name].shape != own[name].shape
    ]
    problems = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", shapes),
        )
        if names
    ]
    if problems:
        looks = f"it looks like size {checkpoint.size!r}" if checkpoint.size else "its size is not a known one"
        raise CheckpointError(
            f"The checkpoint {checkpoint.path} does not fit the model: {'; '.join(problems)}; {looks}, "
            "so choose the config that belongs to it."
        )
    weights = {name: checkpoint.state_dict[name].to(tensor.dtype) for name, tensor in own.items()}
    model.load_state_dict(weights, strict=True, assign=True)  # not copied: a large model would be in memory twice


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
