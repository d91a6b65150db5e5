"""What can be looked at: a folder of pictures, one picture, a video, a camera; one picture in memory at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..datasets.folders import find_images
from ..datasets.images import FORMATS, read_image
from ..datasets.samples import Sample
from ..errors import DatasetError
from ..model.checkpoints import file_sha256

VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")
CAMERA = "camera:"
MAX_SIDE = 2048


@dataclass(frozen=True)
class Picture(Sample):
    """A picture of one's own: turned as its EXIF tag says, and made smaller if a side is longer than ``max_side``."""

    max_side: int = MAX_SIDE

    def image(self) -> np.ndarray:
        """Read the picture: uint8 RGB, shape (H, W, 3). Raises ``DatasetError`` as ``read_image`` does."""
        return shrunk(read_image(self.image_path, upright=True), self.max_side)


class Item(NamedTuple):
    """Something to look at: its name, what tells it from another version of it, and a function that reads it."""

    name: str
    key: str
    read: Callable[[], np.ndarray]


class Source(NamedTuple):
    """How many items there will be (None where nobody knows), and the items: read one before the next is taken."""

    number: int | None
    items: Iterator[Item]


def shrunk(picture: np.ndarray, max_side: int) -> np.ndarray:
    """The picture (H, W, 3), or a smaller one whose longer side has ``max_side`` pixels."""
    share = max_side / max(picture.shape[:2])
    if share >= 1:
        return picture
    height, width = (max(1, round(side * share)) for side in picture.shape[:2])
    return read_image(np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)))


def pictures(folder: Path, max_side: int = MAX_SIDE, apart: Path | None = None) -> list[Picture]:
    """Pictures below a folder but not below the folder ``apart``, by name; files of one name keep their suffixes.

    Raises
    ------
    DatasetError
        If the folder cannot be read or holds no pictures.
    """
    found = find_images(folder)
    if apart is not None:
        found = [(name, path) for name, path in found if not path.resolve().is_relative_to(apart.resolve())]
    if not found:
        raise DatasetError(f"The folder {folder} holds no pictures; read are {', '.join(FORMATS)} files.")
    names = [name for name, _ in found]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    return [
        Picture(f"{name}{path.suffix}" if name in twice else name, "pictures", path, max_side=max_side)
        for name, path in found
    ]


def open_source(
    text: str, *, max_side: int = MAX_SIDE, every: int = 1, limit: int | None = None, apart: Path | None = None
) -> Source:
    """What a user names.

    Parameters
    ----------
    text : str
        A folder, a picture, a video, or ``camera:0``.
    max_side : int, default=2048
        Longer sides are made as short as this.
    every : int, default=1
        Of a video, one of so many frames.
    limit : int, optional
        No more items than these.
    apart : Path, optional
        A folder whose pictures are no source, wherever it is: that of the maps.

    Raises
    ------
    DatasetError
        If there is no such thing, or it is of a kind that is not read.
    """
    if text.startswith(CAMERA):
        number = text.removeprefix(CAMERA)
        if not number.isdecimal():
            raise DatasetError(f"{text} is no camera; the first one is {CAMERA}0.")
        return Source(limit, _frames(int(number), text, time.strftime("camera_%Y%m%d_%H%M%S"), max_side, every, limit))
    path = Path(text).expanduser()
    if path.is_dir():
        chosen = pictures(path, max_side, apart)[:limit]
        return Source(len(chosen), map(_item, chosen))
    if not path.is_file():
        raise DatasetError(f"There is no folder, picture or video {path}; check the path.")
    if path.suffix.lower() in VIDEOS:
        return Source(limit, _frames(str(path), file_sha256(path), path.stem, max_side, every, limit))
    if path.suffix.lower() not in FORMATS:
        raise DatasetError(f"The file {path} is not of a kind that is read: {', '.join([*FORMATS, *VIDEOS])}.")
    return Source(1, map(_item, [Picture(path.stem, "pictures", path, max_side=max_side)]))


def _item(picture: Picture) -> Item:
    try:
        key = file_sha256(picture.image_path)
    except OSError as error:
        key = str(error)  # reading it will say so
    return Item(picture.name, key, picture.image)


def _frames(source: str | int, key: str, stem: str, max_side: int, every: int, limit: int | None) -> Iterator[Item]:
    """Frames of a video or camera; those that nobody reads are not converted."""
    # a file that calls itself a video may be a playlist: nothing is fetched from elsewhere
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "protocol_whitelist;file")
    import cv2

    cv2.utils.logging.setLogLevel(0)
    capture = cv2.VideoCapture(source)
    try:
        if not capture.isOpened():
            what = f"camera {source}" if isinstance(source, int) else f"video {source}"
            raise DatasetError(f"The {what} cannot be opened; check that it is there and in a common format (H.264).")

        def read() -> np.ndarray:
            fine, frame = capture.retrieve()
            if not fine:
                raise DatasetError(f"Frame {number} of {source} cannot be decoded; write the video again.")
            return shrunk(read_image(frame[..., ::-1]), max_side)

        number = taken = 0
        while (limit is None or taken < limit) and capture.grab():
            if number % every == 0:
                yield Item(f"{stem}_{number:06d}", f"{key} {number}", read)
                taken += 1
            number += 1
        _check_end(capture, source, number, limit is not None and taken >= limit)
    finally:
        capture.release()


def _check_end(capture: Any, source: str | int, number: int, enough: bool) -> None:
    """DatasetError if a video ended much before it said; headers of whole videos are wrong by some frames, too."""
    import cv2

    said = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    if not enough and isinstance(source, str) and (not number or number < 0.9 * said):
        raise DatasetError(f"The video {source} ends after {number} of {said} frames; it is damaged: copy it again.")
