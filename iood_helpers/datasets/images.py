"""Pixels from files: colour images, label maps and masks, read and checked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from ..errors import DatasetError

MIN_SIDE = 32
"""Smallest height and width of an image: one cell at stride 32, the coarsest of common networks."""

MAX_PIXELS = 1 << 25
"""Largest image that is decoded (a frame of 7680 x 4320 fits); ``IOOD_MAX_PIXELS`` sets another limit.

At this size, the costliest of the formats takes 2 s and 0.6 GB.
"""

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Endings of images, and Pillow's names of their formats. No other decoder is tried, whatever a file is called: Pillow
would start Ghostscript for an EPS file named ``x.png``."""

LOSSY = ("JPEG", "MPO")
TILE_WIDTH, TILE_HEIGHT = 322, 323
"""Tags of a TIFF file."""


@contextmanager
def _open(path: Path, decode: bool = True) -> Iterator[Image.Image]:
    """An open image file, decoded whole unless only its header is wanted."""
    if not os.path.isfile(path):  # unlike Path.is_file, it never raises
        raise DatasetError(f"The image file {path} does not exist; check the path or restore the file.")
    with ExitStack() as stack:
        try:
            image = stack.enter_context(Image.open(path, formats=sorted(set(FORMATS.values()))))
            _check_size(image, path)
            if decode:
                if image.format == "PNG":
                    image.verify()  # the decoder looks at no checksum: damage in the last rows would pass
                    image = stack.enter_context(Image.open(path, formats=["PNG"]))
                image.load()
        except DatasetError:
            raise
        except Image.DecompressionBombError as error:
            raise DatasetError(
                f"The image file {path} cannot be read ({error}); make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS "
                "and IOOD_MAX_PIXELS if you trust it."
            ) from error
        except Exception as error:  # a damaged file can fail in as many ways as Pillow has decoders
            raise DatasetError(
                f"The image file {path} cannot be read ({error}); replace it by an intact copy or remove it."
            ) from error
        yield image


def _check_size(image: Image.Image, path: Path) -> None:
    limit = _max_pixels()
    sizes = [image.size]
    if isinstance(image, TiffImageFile):  # whole tiles are decoded, however small the image is
        sizes.append((image.tag_v2.get(TILE_WIDTH, 1), image.tag_v2.get(TILE_HEIGHT, 1)))
    for width, height in sizes:
        if width * height > limit:
            raise DatasetError(
                f"The image file {path} says it has {width} x {height} pixels, more than the limit of {limit}; "
                "make it smaller, or set IOOD_MAX_PIXELS if you trust it."
            )
    if _has_more(image):
        raise DatasetError(f"The image file {path} holds several images; save one of them alone.")


def _max_pixels() -> int:
    named = os.environ.get("IOOD_MAX_PIXELS")
    if not named:
        return MAX_PIXELS
    if not named.strip().isdecimal():
        raise DatasetError(f"IOOD_MAX_PIXELS is {named!r}; set it to a whole number of pixels, or unset it.")
    return int(named)


def _has_more(image: Image.Image) -> bool:
    """Whether a file holds further images; the previews that cameras add to a JPEG do not count."""
    if isinstance(image, TiffImageFile):
        return image.tag_v2.next != 0  # counting them would read them all
    return image.format not in LOSSY and getattr(image, "n_frames", 1) > 1


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width in pixels of an image file, from its header alone.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    (int, int)

    Raises
    ------
    DatasetError
        If the file is missing or not an image.
    """
    with _open(Path(path), decode=False) as image:
        return image.height, image.width


def read_image(image: str | Path | np.ndarray | Image.Image, *, upright: bool = False) -> np.ndarray:
    """Read any image as 8-bit RGB.

    Grey, palette, 1-bit and CMYK images are converted to RGB. An alpha channel is dropped: the colour
    stored under it is kept, and nothing is blended in. 16-bit grey values are scaled to 8 bits by
    ``round(v / 257)``; of a file with 16-bit *colour*, Pillow keeps the upper 8 bits. The orientation tag of
    EXIF is not applied unless asked for: rows and columns are those stored in the file, since label maps carry no tag.

    Parameters
    ----------
    image : str, Path, PIL image, or ndarray
        Arrays: uint8, uint16 or bool, of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
    upright : bool, default=False
        Whether a file is turned as its EXIF tag says.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        RGB, 0..255, contiguous. An array that already has this form is returned as it is, not copied.

    Raises
    ------
    DatasetError
        If the file is missing, truncated, not an image, larger than ``MAX_PIXELS`` or several images in one, if it
        has another pixel type (floats, 32-bit integers), or if a side is shorter than 32 pixels.

    Examples
    --------
    >>> read_image(np.full((40, 50), 65535, dtype=np.uint16))[0, 0].tolist()
    [255, 255, 255]
    """
    if isinstance(image, np.ndarray):
        source, rgb = "The image array", _array_to_rgb(image)
    elif isinstance(image, Image.Image):
        source, rgb = "The PIL image", _pil_to_rgb(image, "The PIL image")
    elif isinstance(image, str | Path):
        source = f"The image file {image}"
        with _open(Path(image)) as opened:
            rgb = _pil_to_rgb(ImageOps.exif_transpose(opened) if upright else opened, source)
    else:
        raise DatasetError(
            f"An image of type {type(image).__name__} cannot be read; pass a path, a PIL image or an array."
        )
    height, width = rgb.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise DatasetError(
            f"{source} has {height}x{width} pixels (height x width); use one with at least {MIN_SIDE} on each side."
        )
    return np.ascontiguousarray(rgb)


def _pil_to_rgb(image: Image.Image, source: str) -> np.ndarray:
    if image.mode == "F":
        raise DatasetError(f"{source} has floating point pixels; save it with 8 or 16 bits per channel.")
    try:
        if image.mode.startswith("I"):
            return _array_to_rgb(_sixteen_bit(image, source))
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    except DatasetError:
        raise
    except Exception as error:  # as above
        raise DatasetError(f"{source} cannot be converted to RGB ({error}); save it again as PNG.") from error


def _sixteen_bit(image: Image.Image, source: str) -> np.ndarray:
    """Values of PIL's integer modes ("I;16", "I;16B", "I"), which must fit into 16 bits."""
    values = np.array(image)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise DatasetError(f"{source} has values outside 0..65535; save it with 8 or 16 bits per channel.")
    return values.astype(np.uint16)


def _array_to_rgb(array: np.ndarray) -> np.ndarray:
    if array.dtype not in (np.uint8, np.uint16, np.bool_):
        raise DatasetError(
            f"The image array has type {array.dtype}; convert it to uint8 values 0..255 "
            "(a float image in 0..1 times 255)."
        )
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4):
        raise DatasetError(f"The image array has shape {array.shape}; pass (H, W), (H, W, 3) or (H, W, 4).")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype == np.uint16:
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.shape[-1] == 1:
        return np.repeat(array, 3, axis=-1)
    return array if array.shape[-1] == 3 else array[..., :3]


def read_ids(path: str | Path, what: str = "label file") -> np.ndarray:
    """Read the integer stored at each pixel of a label map.

    Grey and palette files give their stored values (for a palette: the index, not the colour). Files of
    16 bits and RGB files are accepted where the values fit: all at most 255, and the three channels equal.

    Parameters
    ----------
    path : str or Path
        A PNG file; lossy formats would invent ids.
    what : str
        How an error message calls the file.

    Returns
    -------
    ndarray of uint8, shape (H, W)

    Raises
    ------
    DatasetError
        If the file is missing, truncated or a JPEG, or holds colours or values above 255.
    """
    values = _stored(Path(path), what)
    if values.ndim == 3:
        if any((values[..., 0] != values[..., channel]).any() for channel in range(1, values.shape[-1])):
            raise DatasetError(
                f"The {what} {path} holds colours; store one 8-bit id per pixel instead of a colour map."
            )
        values = values[..., 0]
    if values.size and (values.min() < 0 or values.max() > 255):
        raise DatasetError(f"The {what} {path} holds the value {int(values.max())}; store ids of 8 bits (0..255).")
    return values.astype(np.uint8)


def read_colors(path: str | Path) -> np.ndarray:
    """Read the colour stored at each pixel of a label map: uint8, shape (H, W, 3).

    Raises
    ------
    DatasetError
        If the file is missing, truncated, a JPEG, or holds no 8-bit colours.
    """
    values = _stored(Path(path), "label file")
    if values.ndim != 3 or values.dtype != np.uint8:
        raise DatasetError(f"The label file {path} holds no colours; store one RGB colour per pixel.")
    return values


def read_mask(path: str | Path) -> np.ndarray:
    """Read a mask: True where the stored value is not zero.

    Parameters
    ----------
    path : str or Path
        A PNG file; of a colour file any channel counts, alpha does not.

    Returns
    -------
    ndarray of bool, shape (H, W)

    Raises
    ------
    DatasetError
        If the file is missing, truncated or a JPEG.
    """
    values = _stored(Path(path), "mask")
    if values.ndim == 2:
        return values != 0
    return np.logical_or.reduce([values[..., channel] != 0 for channel in range(values.shape[-1])])


def _stored(path: Path, what: str) -> np.ndarray:
    """Values of a label map or mask file: (H, W), or (H, W, C) without alpha."""
    with _open(path) as image:
        if image.format in LOSSY:
            raise DatasetError(f"The {what} {path} is a JPEG, whose values are not exact; store it as PNG.")
        if image.mode == "F" or image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            raise DatasetError(f"The {what} {path} has mode {image.mode}; store one 8-bit id per pixel.")
        values = np.array(image)
    # two channels are grey and alpha, four are colour and alpha; alpha says nothing about the class
    return values[..., : 1 if values.shape[-1] == 2 else 3] if values.ndim == 3 else values
