"""The segmenter in use: image in; classes, confidence, logits and features out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from mmseg.models import EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor

from ..datasets.images import read_image
from ..datasets.labels import NUM_CLASSES
from ..errors import CheckpointError, ParameterError
from . import builders
from .checkpoints import Checkpoint, load_checkpoint
from .fast import uper_head
from .fast.malloc import is_worthwhile, keep_freed_memory
from .precision import Choice, chosen_device, chosen_precision, products, round_weights
from .precision import Precision as Precision
from .prediction import Prediction as Prediction
from .views import Views

Head = Literal["classes", "full"]


class Segmenter:
    """An mmseg ``EncoderDecoder`` with weights, ready to predict. Made by :func:`load_segmenter`.

    Parameters
    ----------
    model : EncoderDecoder
        In mmseg's terms; its ``data_preprocessor`` and ``test_cfg`` are honoured.
    checkpoint : Checkpoint
        Where the weights of ``model`` come from.
    head, device, precision, scales, flip
        As for :func:`load_segmenter`.

    Attributes
    ----------
    precision : {"float32", "bfloat16", "float16"}
        The one in use; with ``"auto"``, the one that was chosen.
    views : Views
        Scales and flips over which classes and confidence are averaged.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        checkpoint: Checkpoint,
        *,
        head: Head = "classes",
        device: str = "cpu",
        precision: Choice = "float32",
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ) -> None:
        self.views = Views(tuple(scales), flip)
        self.precision: Precision = chosen_precision(precision, device)
        self.model = model.eval().to(device)
        self.checkpoint = replace(checkpoint, state_dict={})
        self.head = head
        self.device = torch.device(device)
        if self.precision != "float32":
            round_weights(self.model, self.precision)
        heads = model.decode_head
        self._heads: list[Any] = list(heads) if isinstance(heads, torch.nn.ModuleList) else [heads]
        self._slides = (getattr(model, "test_cfg", None) or {}).get("mode") == "slide"

    @property
    def info(self) -> dict[str, Any]:
        """Source, checksum, size, parameters and head rows, as plain values for a JSON file."""
        return {
            "file": self.checkpoint.path.name,
            "sha256": self.checkpoint.sha256,
            "size": self.checkpoint.size,
            "head_rows": self.checkpoint.num_classes,
            "head": self.head,
            "stored": self.checkpoint.stored,
            "precision": self.precision,
            "scales": list(self.views.scales),
            "flip": self.views.flip,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "device": str(self.device),
        }

    def predict(self, image: Any) -> Prediction:
        """Segment one image, whole or in sliding windows as the model's ``test_cfg`` says.

        With windows, classes, confidence and logits are averaged over them as mmseg does; features and ``decoder`` are
        those of one pass over the whole image. With several scales or flips, classes and confidence are averaged over
        them; all other maps are those of the plain image. Maps of an image that had to be padded are cropped to the
        cells that it covers.

        Parameters
        ----------
        image : ndarray of uint8, PIL image, str or Path
            RGB array (H, W, 3), PIL image, or path of an image file; any size from 32 x 32 pixels.

        Returns
        -------
        Prediction

        Raises
        ------
        DatasetError
            If the image cannot be read or is too small.
        """
        return self.predict_batch([image])[0]

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[Any]) -> list[Prediction]:
        """Segment several images of one size at once; memory grows with their number.

        Parameters
        ----------
        images : sequence
            Each as for :meth:`predict`.

        Returns
        -------
        list of Prediction
            What :meth:`predict` gives for each, to rounding.

        Raises
        ------
        DatasetError
            If an image cannot be read or is too small.
        ParameterError
            If the images differ in size.
        """
        pixels = [read_image(image) for image in images]
        sizes = {one.shape[:2] for one in pixels}
        if len(sizes) > 1:
            raise ParameterError(f"A batch holds images of one size, not of {sorted(sizes)}; predict them one by one.")
        if not pixels:
            return []
        x = torch.cat([self._prepare(one) for one in pixels])
        for one in pixels:
            _record_pass(one.shape)
        features, decoder, logits, upsampled = self._pass(x, sizes.pop())
        out = []
        for number, one in enumerate(pixels):
            probabilities = self.views.average(
                one, upsampled[number : number + 1], self._upsampled, align_corners=self._heads[-1].align_corners
            )
            # With head="full" the soft-max runs over all rows, but only the 19 trained classes may win.
            confidence, classes = probabilities[0, :NUM_CLASSES].max(0)
            covered = [n / padded for n, padded in zip(one.shape[:2], x.shape[2:], strict=True)]
            prediction = Prediction(
                classes=classes.to(torch.uint8).cpu().numpy(),
                confidence=confidence.cpu().numpy(),
                logits=_cropped(logits[number, :NUM_CLASSES], covered),
                features=tuple(_cropped(feature[number], covered) for feature in features),
                decoder=_cropped(decoder[number], covered),
            )
            out.append(prediction)
        return out

    def _pass(self, x: Tensor, size: tuple[int, ...]) -> tuple[Sequence[Tensor], Tensor, Tensor, Tensor]:
        """Features, decoder's features and logits of prepared images; and logits at the size that these had before."""
        with products(self.device, self.precision):
            features = self.model.extract_feat(x)
        decoder, logits = self._decode(features)
        rows = NUM_CLASSES if self.head == "classes" else logits.shape[1]
        if self._slides:
            upsampled = self._slide(x)[:, :rows]
            logits = F.interpolate(upsampled, logits.shape[2:], mode="area")
        else:
            logits = logits[:, :rows]
            upsampled = F.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=self._heads[-1].align_corners)
        return features, decoder, logits, upsampled[:, :, : size[0], : size[1]]

    def _upsampled(self, pixels: np.ndarray) -> Tensor:
        """Logits (1, K, H, W) of an image."""
        return self._pass(self._prepare(pixels), pixels.shape[:2])[-1]

    def _prepare(self, pixels: np.ndarray) -> Tensor:
        return prepared(self.model, torch.from_numpy(pixels.copy()).permute(2, 0, 1)).contiguous()

    def _decode(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Decoder features and logits; with a foreign head the features are caught on their way into ``conv_seg``."""
        head = self._heads[-1]
        if len(self._heads) == 1 and uper_head.supports(head):
            decode = uper_head.decoder_features if self.device.type == "cpu" else type(head)._forward_feature
            with products(self.device, self.precision):
                decoder = decode(head, features).float()
            return decoder, head.cls_seg(decoder)  # in float32 always: rounded logits would be tied
        caught: list[Tensor] = []
        hook = head.conv_seg.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
        try:
            with products(self.device, self.precision):
                logits = self._heads[0](features)
                for later in self._heads[1:]:  # a cascade: each head refines what the one before it predicted
                    logits = later(features, logits)
        finally:
            hook.remove()
        logits = logits[0] if isinstance(logits, tuple | list) else logits  # heads with further outputs for training
        return caught[-1].float(), logits.float()

    def _slide(self, x: Tensor) -> Tensor:
        with products(self.device, self.precision):
            return self.model.slide_inference(x, [{}]).float()  # where mmseg notes the size of each window

    @torch.inference_mode()
    def check(self) -> None:
        """Compare a small prediction with mmseg's own.

        Raises
        ------
        CheckpointError
            If the model cannot be taken apart into features, decoder and classifier, or these give other logits.
        """
        what = f"The model of {self.checkpoint.path}, with a {type(self._heads[-1]).__name__},"
        pixels = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
        try:
            x = self._prepare(pixels)
            with products(self.device, self.precision):
                wanted = self.model.encode_decode(x, [{"img_shape": x.shape[2:]}]).float()
                features = self.model.extract_feat(x)
            decoder, logits = self._decode(features)
            found = F.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=self._heads[-1].align_corners)
        except Exception as error:  # as many kinds as there are heads
            raise CheckpointError(
                f"{what} cannot be taken apart into features, decoder and classifier "
                f"({type(error).__name__}: {error}); use a head whose conv_seg gives the logits."
            ) from error
        if decoder.ndim != 4 or found.shape != wanted.shape or not _alike(found, wanted, self.precision):
            raise CheckpointError(
                f"{what} and its parts predict different logits; use a head whose conv_seg gives the logits."
            )


def prepared(model: EncoderDecoder, image: Tensor) -> Tensor:
    """(3, H, W) RGB, 0..255, as the model's preprocessor leaves it: (1, 3, H', W') float32, normalised and padded."""
    bgr = image.flip(0)  # as mmseg reads images
    return model.data_preprocessor({"inputs": [bgr], "data_samples": [SegDataSample()]})["inputs"]


def _alike(found: Tensor, wanted: Tensor, precision: Precision) -> bool:
    tolerance = 1e-3 if precision == "float32" else 0.1
    return bool((found - wanted).abs().max() <= tolerance * wanted.abs().max().clamp_min(1e-6))


def _cropped(values: Tensor, covered: Sequence[float]) -> np.ndarray:
    """The cells of a map (C, h, w) that an image covers, of which it fills these shares of the sides."""
    rows, columns = (-int(-n * share // 1) for n, share in zip(values.shape[1:], covered, strict=True))
    return values[:, :rows, :columns].float().contiguous().cpu().numpy()


def _record_pass(shape: tuple[int, ...]) -> None:
    """Add a line to the file named by ``IOOD_PASS_LOG``, so that the runner can count forward passes."""
    if log := os.environ.get("IOOD_PASS_LOG"):
        with Path(log).open("a", encoding="utf-8") as stream:
            stream.write(f"{shape[0]}x{shape[1]}\n")


def load_segmenter(
    source: str | Path | dict[str, Any],
    checkpoint: str | Path | None = None,
    *,
    head: Head = "classes",
    device: str = "auto",
    precision: Choice = "float32",
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    sha256: str | None = None,
) -> Segmenter:
    """Build a segmenter and load its weights.

    Parameters
    ----------
    source : str, Path or dict
        A checkpoint of InternImage + UPerNet or EfficientViT: a name (``known_checkpoints`` of :mod:`.checkpoints`), a
        ``.pth`` or ``.safetensors`` path, or a URL. With ``checkpoint``, an mmseg config instead: a path or a
        dictionary. A config that is a Python file is executed by mmengine, so use only one that you trust; a checkpoint
        file never is. Honoured are normalisation, channel order and padding, ``align_corners``, sliding windows,
        cascades and lists of heads.
    checkpoint : str or Path, optional
        Weights for the config ``source``: name, path or URL.
    head : {"classes", "full"}
        ``"classes"`` slices a classifier with more rows than classes to the 19 classes before the soft-max (with a
        warning); ``"full"`` keeps all rows in the soft-max.
    device : str
        ``"auto"`` (CUDA if there is one), or a PyTorch device. On the CPU, with networks of up to 100 million weights,
        the process keeps freed memory for reuse (:mod:`iood_helpers.model.fast.malloc` says why, and how to choose).
    precision : {"float32", "bfloat16", "float16", "auto"}
        ``"bfloat16"`` keeps the weights of products (half the memory) and their inputs to 8 binary digits; the residual
        sums and the sampling of InternImage, UPerNet's classifier, and the soft-max of all networks stay in float32.
        It is faster where the processor multiplies bfloat16 faster, and slower elsewhere. ``"float16"``, the same with
        11 digits, needs CUDA. ``"auto"`` is bfloat16 where a timed product is faster (CPU) or where it is supported
        (CUDA), else float32; ``Segmenter.precision`` says which. Do not mix precisions between fitting and predicting.
    scales : sequence of float
        Factors on the sides of the image, 0.1 to 8; soft-max probabilities are averaged over them as mmseg does at
        test time. Logits and features are those of the plain image. Each scale takes a pass of its own.
    flip : bool
        Whether each scale is seen flipped from left to right, too, and averaged.
    sha256 : str, optional
        Expected checksum of the weights, 64 hexadecimal digits.

    Returns
    -------
    Segmenter

    Raises
    ------
    CheckpointError
        If the file is missing, unsafe, damaged, or does not fit the model; if the config cannot be read or built, or
        its model predicts something else than its features, decoder and classifier taken one by one.
    ParameterError
        If ``head`` or ``precision`` is unknown, float16 is asked for without CUDA, or a scale is impossible.
    """
    if head not in ("classes", "full"):
        raise ParameterError(f"Unknown head {head!r}; use 'classes' or 'full'.")
    views = Views(tuple(scales), flip)
    device = chosen_device(device)
    precision = chosen_precision(precision, device)
    loaded = load_checkpoint(str(source) if checkpoint is None else checkpoint, sha256)
    model = builders.from_weights(loaded) if checkpoint is None else builders.from_config(source, loaded)
    if loaded.num_classes is not None and loaded.num_classes < NUM_CLASSES:
        raise CheckpointError(
            f"The checkpoint {loaded.path} has {loaded.num_classes} classes, but the {NUM_CLASSES} Cityscapes classes "
            "are needed; choose a checkpoint trained on Cityscapes."
        )
    if loaded.num_classes is not None and loaded.num_classes > NUM_CLASSES and head == "classes":
        warnings.warn(
            f"The classifier has {loaded.num_classes} rows; the first {NUM_CLASSES} are used "
            "(head='full' keeps all of them in the soft-max).",
            stacklevel=2,
        )
    if str(device) == "cpu" and is_worthwhile(sum(weight.numel() for weight in model.parameters())):
        keep_freed_memory()
    segmenter = Segmenter(
        model, loaded, head=head, device=device, precision=precision, scales=views.scales, flip=views.flip
    )
    if checkpoint is not None:
        segmenter.check()
    return segmenter
