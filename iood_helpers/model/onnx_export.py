"""The network as one ONNX file, which runtimes other than PyTorch run; the extra ``[onnx]`` brings what it takes.

From an image as it is read to features, decoder and logits: :meth:`.Prediction.from_arrays` takes what comes out. The
file holds nothing of this package: DCNv3 is written with ``GridSample``.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..datasets.labels import NUM_CLASSES
from ..errors import CheckpointError, ParameterError
from ..io import write_atomically
from .segmenter import Segmenter, prepared

OPSET = 18
"""``GridSample`` is in every set from 16 on; PyTorch's exporter writes 18 or later."""
NEEDED = ("onnx", "onnxscript")


def export_onnx(segmenter: Segmenter, path: str | Path, shape: tuple[int, int]) -> Path:
    """Write the network of a segmenter for images of one size.

    The file has one input, ``image``: (1, 3, H, W) float32, RGB, 0..255; normalisation is inside. Its outputs are
    ``logits`` (1, 19, h, w), ``decoder`` (1, D, h, w), and ``features_0``, ``features_1``, ... (1, C_k, h_k, w_k), as
    :class:`.Prediction` has them. Tests compare them for nano and InternImage-T, to 1e-4 of each map's largest number.

    Parameters
    ----------
    segmenter : Segmenter
        On the CPU, in float32.
    path : str or Path
        File to write, ``.onnx``.
    shape : (int, int)
        Height and width of the images, at least 32, which the network's preprocessor must leave as they are.

    Returns
    -------
    Path

    Raises
    ------
    ParameterError
        If the extra ``[onnx]`` is not installed, the segmenter is on another device or in another precision, or
        images of this size would be padded.
    CheckpointError
        If the network works in sliding windows, or has a head whose features and classifier cannot be told apart.
    FileError
        If the file cannot be written.
    """
    _check(segmenter, shape)
    network = _Network(segmenter).eval()
    image = torch.zeros(1, 3, *shape)
    with torch.no_grad(), _PlainPooling():
        outputs = ["logits", "decoder", *(f"features_{level}" for level in range(len(network(image)) - 2))]
        program = torch.export.export(network, (image,), strict=False)
    names: dict[str, Any] = {"input_names": ["image"], "output_names": outputs}

    def write(temporary: Path) -> None:
        torch.onnx.export(
            program,
            f=temporary,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            optimize=False,  # runtimes do it when they load the file
            verbose=False,
            **names,
        )

    return write_atomically(path, write)


def _check(segmenter: Segmenter, shape: tuple[int, int]) -> None:
    model = segmenter.model
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ParameterError(f"ONNX files are written with {missing[0]}; install the extra: pip install '.[onnx]'.")
    if segmenter.device.type != "cpu" or segmenter.precision != "float32":
        raise ParameterError("ONNX files are written of float32 on the CPU; load the segmenter with device='cpu'.")
    if min(shape) < 32:
        raise ParameterError(f"Images have at least 32 x 32 pixels, not {shape[0]} x {shape[1]}.")
    padded = prepared(model, torch.zeros(3, *shape)).shape[2:]
    if tuple(padded) != tuple(shape):
        raise ParameterError(f"The network pads such images to {tuple(padded)}; give that shape, and pad them before.")
    if not hasattr(model.decode_head, "_forward_feature") or (model.test_cfg or {}).get("mode") == "slide":
        raise CheckpointError(
            f"The network of {segmenter.checkpoint.path} works in windows, or in several heads; only one that sees "
            "an image as a whole and decodes it once goes into an ONNX file."
        )


class _Network(nn.Module):
    """What a segmenter does between the image and the soft-max, in operators that ONNX has."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.model, self.rows = segmenter.model, NUM_CLASSES

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        head, features = self.model.decode_head, self.model.extract_feat(prepared(self.model, image[0]))
        decoder = head._forward_feature(features)
        return head.cls_seg(decoder)[:, : self.rows], decoder, *features


class _PlainPooling(TorchFunctionMode):
    """Adaptive average pooling as two matrix products: ONNX has none for sizes that do not divide."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.adaptive_avg_pool2d:
            return func(*args, **(kwargs or {}))
        x, size = args
        down, across = (_means(n, k) for n, k in zip(x.shape[2:], _pair(size), strict=True))
        return down @ x @ across.T


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _means(cells: int, parts: int) -> Tensor:
    """Matrix (parts, cells) that averages a line in overlapping parts, as PyTorch does."""
    matrix = torch.zeros(parts, cells)
    for part in range(parts):
        first, last = part * cells // parts, -(-(part + 1) * cells // parts)
        matrix[part, first:last] = 1 / (last - first)
    return matrix
