"""Maps of classes, confidences and masks, as they come in files of other people."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from ..errors import SubmissionError
from .codec import MAX_PIXELS


def read_map(content: bytes, source: Any, kind: type | None = None) -> np.ndarray:
    """The map in the bytes of a PNG of one channel, (H, W); ``source`` names it in messages.

    Raises
    ------
    SubmissionError
        If it is damaged, too large, has several channels, or another type than ``kind``, if that is given.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise SubmissionError(
                    f"The image {source} has {image.width} x {image.height} pixels; {MAX_PIXELS} is the limit."
                )
            image.verify()  # the decoder looks at no checksum; an image that was verified must be opened again
        array = np.asarray(Image.open(io.BytesIO(content), formats=["PNG"]))
    except SubmissionError:
        raise
    except Exception as error:  # a damaged image can fail in as many ways as Pillow has parsers
        raise SubmissionError(f"The image {source} cannot be read ({error}); write it again.") from error
    if array.ndim != 2 or (kind is not None and array.dtype != kind):
        wanted = f"{8 * np.dtype(kind).itemsize} bits" if kind else "one channel"
        raise SubmissionError(f"The image {source} has {array.dtype} {array.shape}; it needs {wanted}, one channel.")
    return array
