"""The two binary files of a BRAVO submission, as bytes to arrays and back; no folders, no archives.

Source: the format of the BRAVO Challenge's toolkit, version 2 of "BV23".
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import zstandard

from ..checks import class_map, confidence_levels
from ..datasets.labels import NUM_CLASSES
from ..errors import SubmissionError

MAGIC, VERSION = b"BV23", 2
HEADER = struct.Struct("<4s6I")
"""Magic, version, rows, columns, number of samples, bytes of the classes, bytes of the confidences."""

LEVEL = 9
MAX_PIXELS = 1 << 24
"""Indices have three bytes."""

MAX_SAMPLES = 1 << 20
"""Ten times what the protocol draws from an image."""

MAX_WINDOW = 1 << 26
PIECE = 512
"""Bytes decompressed at once: what they can grow to is bounded, since a block of zstd holds 128 kB at most."""


def encode_samples(indices: np.ndarray) -> bytes:
    """Sampled pixels as bytes.

    Parameters
    ----------
    indices : ndarray of int, shape (n,)
        Rising indices into the flattened image, n >= 1, each below 2 ** 24.

    Returns
    -------
    bytes
        zstd of: count (3 bytes), first index (3 bytes), then differences: 1 byte for 1..255, else 0 and 3 bytes.

    Raises
    ------
    SubmissionError
        If there are none, they do not rise, or one is too large.
    """
    indices = _rising(indices, MAX_PIXELS)
    differences = np.diff(indices)
    long = differences > 255
    lengths = np.where(long, 4, 1)
    ends = np.cumsum(lengths)
    body = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
    starts = ends - lengths
    body[starts[~long]] = differences[~long]
    for byte in range(3):
        body[starts[long] + 1 + byte] = (differences[long] >> (8 * byte)) & 255
    head = len(indices).to_bytes(3, "little") + int(indices[0]).to_bytes(3, "little")
    return _compress(head + body.tobytes())


def decode_samples(content: bytes, source: str = "The sample file") -> np.ndarray:
    """Sampled pixels from bytes: what :func:`encode_samples` got, (n,) int64; ``source`` names the file in errors."""
    raw = _decompress(content, source, limit=2 + 4 * MAX_SAMPLES)
    count = int.from_bytes(raw[:3], "little")
    if len(raw) < 6 or not 0 < count <= MAX_SAMPLES or not 5 + count <= len(raw) <= 2 + 4 * count:
        raise SubmissionError(f"{source} holds other samples than it announces; fetch it again.")
    body = np.frombuffer(raw, np.uint8, offset=6)
    zeros, end = [], 0  # those that announce three bytes; a zero among these bytes announces nothing
    for place in np.flatnonzero(body == 0).tolist():
        if place >= end:
            zeros.append(place)
            end = place + 4
    if end > len(body):
        raise SubmissionError(f"{source} holds other samples than it announces; fetch it again.")
    steps, starts, long = body.astype(np.int64), np.ones(len(body), bool), np.array(zeros, np.intp)
    for byte in range(3):
        steps[long] += body[long + 1 + byte].astype(np.int64) << (8 * byte)
        starts[long + 1 + byte] = False
    steps = steps[starts]
    indices = int.from_bytes(raw[3:6], "little") + np.append(0, np.cumsum(steps))
    if len(indices) != count or (steps == 0).any() or indices[-1] >= MAX_PIXELS:
        raise SubmissionError(f"{source} holds other samples than it announces; fetch it again.")
    return indices


def encode_prediction(classes: np.ndarray, confidence: np.ndarray, indices: np.ndarray) -> bytes:
    """One image of a submission as bytes.

    Parameters
    ----------
    classes : ndarray of int, shape (H, W)
        Train ids 0..18.
    confidence : ndarray, shape (H, W)
        Levels 0..65535 as integers of 16 bits or more; or floats 0..1.
    indices : ndarray of int, shape (n,)
        Sampled pixels, rising; only their confidence is sent.

    Returns
    -------
    bytes

    Raises
    ------
    SubmissionError
        If types, sizes or values are wrong, or an index lies outside the image.
    """
    classes, confidence = checked_pair(classes, confidence)
    indices = _rising(indices, classes.size)
    sent = [classes.tobytes(), confidence.ravel()[indices].astype("<u2").tobytes()]
    header = HEADER.pack(MAGIC, VERSION, *classes.shape, len(indices), *map(len, sent))
    content = header + _compress(b"".join(sent))
    return content + zlib.crc32(content).to_bytes(4, "little")


def checked_pair(classes: np.ndarray, confidence: np.ndarray, of: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Class map (H, W) uint8 and levels (H, W) uint16 of what :func:`encode_prediction` takes; ``of`` names the image.

    Raises
    ------
    SubmissionError
        If shapes differ, are not (H, W), or are larger than the format allows; if a value is NaN or out of range.
    """
    classes = class_map(classes, f"The predicted classes{of}", SubmissionError)
    levels = confidence_levels(confidence, f"The confidences{of}", SubmissionError)
    if classes.ndim != 2 or classes.shape != levels.shape or not 0 < classes.size <= MAX_PIXELS:
        raise SubmissionError(
            f"Classes {classes.shape} and confidences {levels.shape}{of} must be maps of one size, "
            f"of 1 to {MAX_PIXELS} pixels."
        )
    return classes.astype(np.uint8, copy=False), levels.astype(np.uint16, copy=False)


def decode_prediction(content: bytes, source: str = "The encoded file") -> tuple[np.ndarray, np.ndarray]:
    """One image of a submission.

    Returns
    -------
    classes : ndarray of uint8, shape (H, W)
    levels : ndarray of uint16, shape (n,)
        Confidences of the sampled pixels.

    Raises
    ------
    SubmissionError
        If checksum, magic, version, lengths or classes are wrong; ``source`` names the file.
    """
    if len(content) < HEADER.size + 4 or content[:4] != MAGIC:
        raise SubmissionError(f"{source} is not an encoded prediction; encode the tree again.")
    if zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "little"):
        raise SubmissionError(f"{source} is damaged (its checksum is wrong); encode the tree again.")
    _, version, rows, columns, samples, class_bytes, confidence_bytes = HEADER.unpack(content[: HEADER.size])
    if version != VERSION:
        raise SubmissionError(f"{source} has version {version}; this code reads version {VERSION}.")
    fits = 0 < class_bytes == rows * columns <= MAX_PIXELS and confidence_bytes == 2 * samples
    if not fits or samples > min(class_bytes, MAX_SAMPLES):
        raise SubmissionError(f"{source} announces lengths that do not fit its size; encode the tree again.")
    raw = _decompress(content[HEADER.size : -4], source, limit=class_bytes + confidence_bytes)
    if len(raw) != class_bytes + confidence_bytes:
        raise SubmissionError(f"{source} holds {len(raw)} bytes and not what it announces; encode the tree again.")
    classes = np.frombuffer(raw, np.uint8, class_bytes).reshape(rows, columns)
    if classes.size and classes.max() >= NUM_CLASSES:
        raise SubmissionError(f"{source} holds class {classes.max()}; only train ids 0..18 are allowed.")
    return classes, np.frombuffer(raw, "<u2", samples, class_bytes).astype(np.uint16)


def _rising(indices: np.ndarray, pixels: int) -> np.ndarray:
    """Indices of pixels as int64, if they are one vector, rise, and lie within an image of ``pixels`` pixels."""
    indices = np.asarray(indices)
    fits = indices.ndim == 1 and indices.dtype.kind in "iu" and 0 < len(indices) <= MAX_SAMPLES
    if not fits or indices[0] < 0 or indices[-1] >= pixels or (indices[1:] <= indices[:-1]).any():
        raise SubmissionError(
            f"Samples must be rising indices from 0 to {pixels - 1}, one at least and {MAX_SAMPLES} at most."
        )
    return indices.astype(np.int64)


def _compress(content: bytes) -> bytes:
    """One zstd frame with its size and a checksum, by which a reader notices damage."""
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(content)


def _decompress(content: bytes, source: str, limit: int) -> bytes:
    """Content of one zstd frame, at most ``limit`` bytes, so that a small file cannot fill the memory."""
    reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
    parts, size, view = [], 0, memoryview(content)
    try:
        for start in range(0, len(view), PIECE):
            parts.append(reader.decompress(view[start : start + PIECE]))
            size += len(parts[-1])
            if size > limit:
                raise SubmissionError(f"{source} holds more than it announces; make it again.")
            if reader.eof:
                if reader.unused_data or start + PIECE < len(view):
                    raise SubmissionError(f"{source} goes on after its end; make it again.")
                return b"".join(parts)
    except zstandard.ZstdError as error:
        raise SubmissionError(f"{source} is damaged ({error}); make it again.") from error
    raise SubmissionError(f"{source} was cut; make it again.")
