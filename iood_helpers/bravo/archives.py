"""Tar archives: untrusted ones are read strictly, within limits; the same files are written as the same bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ..errors import SubmissionError
from ..io import write_atomically

MAX_MEMBER = 1 << 28
"""Bytes: no image, label or encoded file of the benchmark comes near."""
MAX_MEMBERS = 20_000
"""Files and folders; the benchmark has some 3 000 images."""
MAX_HEADER, MAX_LINES = 1 << 16, 100
"""Bytes and lines of an extended header: each line costs the parser a microsecond, and compressed it costs nothing."""
MAX_RATIO, FREE_BYTES = 50, 1 << 26
"""A compressed archive may grow to this many times its size (images hardly compress), beyond what is free for all."""
COMPRESSIONS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
DAMAGE = (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError, lzma.LZMAError, zlib.error)
BLOCK = tarfile.BLOCKSIZE


class Members:
    """Regular files of a tar, by name; calling it reads one.

    Attributes
    ----------
    path : Path
        The archive, for messages.
    names : list of str
        Sorted, without a leading ``./``.
    """

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        headers: Any = _Headers(stream, path)
        archive = tarfile.open(fileobj=headers, mode="r:")  # noqa: SIM115 (the stream is the caller's)
        self.path, self._archive = path, archive
        self._members: dict[str, tarfile.TarInfo] = {}
        for number, member in enumerate(archive):
            if number >= MAX_MEMBERS:
                raise SubmissionError(
                    f"The archive {path} holds more than {MAX_MEMBERS} files; check which file it is."
                )
            if len(archive.pax_headers) > MAX_LINES:  # global ones add up, and each member gets a copy
                raise SubmissionError(f"The archive {path} has more than {MAX_LINES} global headers; pack it again.")
            self._add(member)
        archive.fileobj = stream  # from here on contents are read
        _check_end(stream, archive.offset, path)
        self.names = sorted(self._members)

    def _add(self, member: tarfile.TarInfo) -> None:
        name = PurePosixPath(member.name)  # drops "./"
        if name.is_absolute() or ".." in name.parts or "\0" in member.name:
            raise SubmissionError(
                f"The archive {self.path} holds {member.name!r}, a path outside of it; do not use it."
            )
        if member.isdir():
            return
        if not member.isreg() or member.issparse():
            raise SubmissionError(
                f"The archive {self.path} holds {member.name!r}, a link, device or sparse file; pack plain files only."
            )
        if not 0 <= member.size <= MAX_MEMBER:
            raise SubmissionError(
                f"The archive {self.path} holds {member.name!r} of {member.size} bytes; at most {MAX_MEMBER} are read."
            )
        if str(name) in self._members:
            raise SubmissionError(f"The archive {self.path} holds {name} twice; pack it again.")
        self._members[str(name)] = member

    def __call__(self, name: str) -> bytes:
        """Content of the file of this name."""
        if name not in self._members:
            raise SubmissionError(f"The archive {self.path} lacks {name}; fetch it again.")
        try:
            stream = self._archive.extractfile(self._members[name])
            content = stream.read() if stream else b""
        except (OSError, *DAMAGE) as error:
            raise SubmissionError(
                f"{name} in the archive {self.path} cannot be read ({error}); fetch it again."
            ) from error
        if len(content) != self._members[name].size:
            raise SubmissionError(f"The archive {self.path} ends within {name}; fetch it again.")
        return content


class _Headers:
    """What ``tarfile`` reads while it lists an archive: headers, none of which is large."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream, self._path = stream, path
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        """The next bytes, if they are no more than a header needs."""
        content = self._stream.read(size) if 0 <= size <= MAX_HEADER else None
        if content is None or content.count(b"\n") > MAX_LINES:
            raise SubmissionError(
                f"The archive {self._path} has an extended header of more than {MAX_HEADER} bytes or {MAX_LINES} "
                "lines; pack it again."
            )
        return content


def _check_end(stream: BinaryIO, offset: int, path: Path) -> None:
    """After the last member come two blocks of zeros at least, and nothing else.

    A damaged header, or a cut between two members, would end the list without a word.
    """
    stream.seek(offset)
    size = 0
    while piece := stream.read(1 << 20):
        if piece.count(0) != len(piece):
            raise SubmissionError(f"The archive {path} is damaged after byte {offset}; fetch it again.")
        size += len(piece)
    if size < 2 * BLOCK or size % BLOCK:
        raise SubmissionError(f"The archive {path} has no proper end, so it was cut; fetch it again.")


@contextmanager
def reading(path: str | Path) -> Iterator[Members]:
    """Open a tar, plain or compressed by gzip, bzip2 or xz.

    Raises
    ------
    SubmissionError
        If it is missing, no tar, cut or damaged, holds anything but plain files below itself, or is larger than the
        limits of this module allow; the message names it.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise SubmissionError(f"{path} is a folder, where an archive is wanted; give the tar file.")
    if not path.is_file():
        raise SubmissionError(f"The archive {path} does not exist; check the path.")
    with ExitStack() as stack:
        try:
            plain = stack.enter_context(_unpacked(stack.enter_context(path.open("rb")), path))
            members = Members(plain, path)
        except OSError as error:
            raise SubmissionError(f"The archive {path} cannot be read ({error.strerror or error}).") from error
        except MemoryError as error:  # xz may announce a dictionary of gigabytes
            raise SubmissionError(f"The archive {path} needs more memory than there is; unpack it yourself.") from error
        except DAMAGE as error:
            raise SubmissionError(f"The archive {path} is not an intact tar ({error}); fetch it again.") from error
        yield members


@contextmanager
def _unpacked(stream: BinaryIO, path: Path) -> Iterator[BinaryIO]:
    """The stream itself, or, if it is compressed, a temporary file of what is in it."""
    start = stream.read(6)
    stream.seek(0)
    opener = next((opener for magic, opener in COMPRESSIONS.items() if start.startswith(magic)), None)
    if opener is None:
        yield stream
        return
    limit = FREE_BYTES + MAX_RATIO * path.stat().st_size
    with tempfile.TemporaryFile() as plain:
        with opener(stream) as content:
            while piece := content.read(1 << 20):
                plain.write(piece)
                if plain.tell() > limit:
                    raise SubmissionError(
                        f"The archive {path} grows beyond {limit} bytes; unpack it yourself if you trust it."
                    )
        plain.seek(0)
        yield plain


def write_tar(path: str | Path, files: Iterator[tuple[str, bytes]]) -> Path:
    """Write names and contents as a plain tar, atomically; without owners and times, so that nothing else enters."""

    def write(temporary: Path) -> None:
        with tarfile.open(temporary, "w") as archive:
            for name, content in files:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))

    return write_atomically(path, write)
