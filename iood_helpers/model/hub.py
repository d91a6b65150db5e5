"""Checkpoints from elsewhere: ``hf://`` through huggingface_hub, ``https://`` through pooch, each fetched once.

Address: ``hf://owner/repo/file`` or ``hf://owner/repo@revision/file``. The hub's own settings hold: ``HF_HOME`` and
``HF_HUB_CACHE`` say where files are kept, ``HF_ENDPOINT`` names a mirror, ``HF_TOKEN`` opens what needs a login, and
``HF_HUB_OFFLINE=1`` asks nobody. What came is remembered by its SHA-256: a file that has changed since is dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path

from ..errors import CheckpointError
from ..io import cache_dir, write_json

ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?/(?P<file>[^?#@]+)")
LFS_NAME = re.compile(r"[0-9a-f]{64}")
"""What the hub calls a large file in its cache: the SHA-256 of its content."""


def is_remote(source: str) -> bool:
    """Whether a source is an address of a file elsewhere."""
    return source.startswith("hf://") or re.match(r"https?://", source) is not None


def fetch(address: str, sha256: str | None = None) -> Path:
    """File at an address, from the cache if it is there; what is fetched anew is checked and remembered.

    Parameters
    ----------
    address : str
        ``hf://``, ``https://`` or ``http://``.
    sha256 : str, optional
        Expected checksum, 64 hexadecimal digits.

    Returns
    -------
    Path

    Raises
    ------
    CheckpointError
        If it cannot be fetched, has another checksum, or is no checkpoint; nothing is kept then.
    """
    path = _from_hub(address) if address.startswith("hf://") else _from_web(address, sha256)
    if _record(path).is_file():
        return path
    with path.open("rb") as stream:
        start = stream.read(9)
    # PyTorch's zip, a pickle, safetensors
    if not start.startswith((b"PK\x03\x04", b"\x80")) and start[8:] != b"{":
        forget(path)
        raise CheckpointError(f"{address} is not a checkpoint (a login page, perhaps); fetch the file by hand.")
    found = file_sha256(path)
    wanted = sha256.lower() if sha256 else _promised(path) or found
    if found != wanted:
        forget(path)
        raise CheckpointError(
            f"The download of {address} is dropped: its checksum is {found} instead of {wanted}; fetch it again."
        )
    write_json(_record(path), {"address": address, "sha256": found, "bytes": path.stat().st_size})
    return path


def recorded_sha256(path: Path) -> str | None:
    """Checksum of a fetched file when it came, or None if nobody remembers."""
    try:
        return json.loads(_record(path).read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget(path: Path) -> None:
    """Drop a fetched file, so that the next call fetches it anew."""
    record = _record(path)
    for file in (path.resolve(), path, record):  # the hub keeps a link to a file of another name
        with suppress(OSError):
            file.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _record(path: Path) -> Path:
    key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return cache_dir() / "checkpoints" / f"{key}.json"


def _promised(path: Path) -> str | None:
    """Checksum that the hub gave with a large file."""
    name = path.resolve().name
    return name if LFS_NAME.fullmatch(name) else None


def _from_web(url: str, sha256: str | None) -> Path:
    import pooch

    folder = cache_dir() / "checkpoints"
    # Named after the whole URL, since half of all checkpoints are called best.pth.
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{Path(url.split('?')[0]).name}"
    known_hash = f"sha256:{sha256}" if sha256 else None
    try:
        return Path(pooch.retrieve(url, known_hash=known_hash, fname=name, path=folder, progressbar=True))
    except Exception as error:  # pooch passes on whatever the network raised
        raise CheckpointError(
            f"The checkpoint {url} could not be downloaded ({error}); fetch it by hand, put it at {folder / name}, "
            "or give its path instead."
        ) from error


def _from_hub(address: str) -> Path:
    match = ADDRESS.fullmatch(address)
    if not match:
        raise CheckpointError(
            f"The address {address} is not understood; write hf://owner/repo/file or hf://owner/repo@revision/file."
        )
    from huggingface_hub import hf_hub_download

    # the library reads its settings once, when it is imported; a notebook may set them later
    home, cache = (os.environ.get(name) for name in ("HF_HOME", "HF_HUB_CACHE"))
    cache = cache or (str(Path(home).expanduser() / "hub") if home else None)
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    try:
        found = hf_hub_download(
            match["repo"],
            match["file"],
            revision=match["revision"],
            cache_dir=cache,
            endpoint=os.environ.get("HF_ENDPOINT") or None,
            local_files_only=offline,
        )
    except Exception as error:  # as many kinds as the hub and the network have
        raise CheckpointError(f"The checkpoint {address} {_reason(error, match['repo'], offline)}") from error
    return Path(found)


def _reason(error: Exception, repo: str, offline: bool) -> str:
    """What kept a file from coming, and what to do."""
    from huggingface_hub import errors

    page = f"{os.environ.get('HF_ENDPOINT') or 'https://huggingface.co'}/{repo}"
    by_hand = "or fetch it by hand and give its path"
    if offline:
        return f"is not in the cache, and HF_HUB_OFFLINE is set; unset it, {by_hand}."
    answers = [getattr(one, "response", None) for one in (error, error.__cause__)]
    status = next((answer.status_code for answer in answers if answer is not None), None)
    if isinstance(error, errors.RepositoryNotFoundError | errors.GatedRepoError) or status in (401, 403):
        return (
            f"needs a login, or there is no such repository; see {page}, accept its terms if it has any, and log in "
            "with hf auth login, or set HF_TOKEN."
        )
    if isinstance(error, errors.RevisionNotFoundError) or status == 404:
        return f"does not exist; look at {page} for its name and revision."
    cause = " ".join(str(error.__cause__ or error).split())[:300]
    return f"could not be downloaded ({cause}); try again, choose a mirror by HF_ENDPOINT, {by_hand}."
