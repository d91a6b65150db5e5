"""The segmenter in use: image in; classes, confidence, logits and features out."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import mmseg.models  # noqa: F401  (registers heads and segmentors)
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmseg.registry import MODELS

from . import (
    internimage,  # noqa: F401  (registers the backbone)
    uper_head,
)
from .checkpoints import Checkpoint, load_checkpoint, load_strictly
from .classes import NUM_CLASSES
from .configs import MEAN, STD, model_config
from .errors import CheckpointError
from .images import read_image
from .memory import keep_freed_memory

Head = Literal["classes", "full"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Prediction:
    """What the segmenter says of one image of H x W pixels.

    Attributes
    ----------
    classes
        Train id of the most likely class, (H, W) uint8, 0..18.
    confidence
        Maximum soft-max probability, (H, W) float32, 0..1.
    logits
        Classifier output before enlarging, (19, h, w) float32, h and w about a quarter of H and W.
    features
        Backbone maps at strides 4, 8, 16, 32: four arrays (C_k, h_k, w_k) float32.
    decoder
        Input of the classifier, (D, h, w) float32.
    """

    classes: np.ndarray
    confidence: np.ndarray
    logits: np.ndarray
    features: tuple[np.ndarray, ...]
    decoder: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.classes.shape


class Segmenter:
    """An mmseg ``EncoderDecoder`` with weights, ready to predict. Made by :func:`load_segmenter`.

    ``checkpoint`` tells where the weights come from; the weights themselves are those of ``model``.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        checkpoint: Checkpoint,
        *,
        head: Head = "classes",
        device: str = "cpu",
        precision: Precision = "float32",
    ) -> None:
        self.model = model.eval().to(device)
        self.checkpoint = replace(checkpoint, state_dict={})
        self.head = head
        self.device = torch.device(device)
        self.precision = precision
        if precision == "bfloat16":
            _round_weights(self.model)
        preprocessor = getattr(model, "data_preprocessor", None)
        mean, std = (getattr(preprocessor, name, None) for name in ("mean", "std"))
        self._mean = torch.tensor(MEAN) if mean is None else mean.detach().cpu().flatten()
        self._std = torch.tensor(STD) if std is None else std.detach().cpu().flatten()

    @property
    def info(self) -> dict[str, Any]:
        """Source, checksum, size, parameters and head rows, as plain values for a JSON file."""
        return {
            "file": self.checkpoint.path.name,
            "sha256": self.checkpoint.sha256,
            "size": self.checkpoint.size,
            "head_rows": self.checkpoint.num_classes,
            "head": self.head,
            "precision": self.precision,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "device": str(self.device),
        }

    @torch.inference_mode()
    def predict(self, image: Any) -> Prediction:
        """Segment one image.

        Parameters
        ----------
        image
            (H, W, 3) uint8 RGB array, PIL image, or path of an image file; any size from 32 x 32 pixels.

        Returns
        -------
        Prediction

        Raises
        ------
        DatasetError
            If the image cannot be read or is too small.
        """
        pixels = torch.from_numpy(np.array(read_image(image))).float()
        _record_pass(pixels.shape)
        x = ((pixels - self._mean) / self._std).permute(2, 0, 1)[None].contiguous().to(self.device)
        with self._products():
            features = self.model.extract_feat(x)
        decoder, logits = self._decode(features)
        if self.head == "classes":
            logits = logits[:, :NUM_CLASSES]
        probabilities = F.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=False).softmax(1)
        # With head="full" the soft-max runs over all rows, but only the 19 trained classes may win.
        confidence, classes = probabilities[0, :NUM_CLASSES].max(0)
        return Prediction(
            classes=classes.to(torch.uint8).cpu().numpy(),
            confidence=confidence.cpu().numpy(),
            logits=logits[0, :NUM_CLASSES].cpu().numpy(),
            features=tuple(feature[0].cpu().numpy() for feature in features),
            decoder=decoder[0].cpu().numpy(),
        )

    def _decode(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Decoder features and logits; with a foreign head the features are caught on their way into ``conv_seg``."""
        head = self.model.decode_head
        if uper_head.applies_to(head):
            decode = uper_head.decoder_features if self.device.type == "cpu" else type(head)._forward_feature
            with self._products():
                decoder = decode(head, features).float()
            return decoder, head.cls_seg(decoder)  # in float32 always: rounded logits would be tied
        caught: list[torch.Tensor] = []
        hook = head.conv_seg.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
        try:
            with self._products():
                logits = head(features)
        finally:
            hook.remove()
        return caught[0].float(), logits.float()

    def _products(self) -> torch.autocast:
        """Context in which matrix products and convolutions run in the chosen precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")


def _record_pass(shape: tuple[int, ...]) -> None:
    """Add a line to the file named by ``IOOD_PASS_LOG``, by which the runner counts what each notebook computed."""
    if log := os.environ.get("IOOD_PASS_LOG"):
        with open(log, "a", encoding="utf-8") as stream:
            stream.write(f"{shape[0]}x{shape[1]}\n")


def _round_weights(model: torch.nn.Module) -> None:
    """Keep the weights of products in bfloat16, or autocast would round them anew for each image."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and not name.endswith("conv_seg"):
            module.to(torch.bfloat16)


def load_segmenter(
    source: str | Path,
    checkpoint: str | Path | None = None,
    *,
    head: Head = "classes",
    device: str = "auto",
    precision: Precision = "float32",
    sha256: str | None = None,
) -> Segmenter:
    """Build a segmenter and load its weights.

    Parameters
    ----------
    source
        A name (``iood_helpers.checkpoints.known_checkpoints``), a ``.pth`` or ``.safetensors`` path, a URL; or, with
        ``checkpoint``, an mmseg config (path, or a dictionary). A config that is a Python file is executed by mmengine,
        so use only one that you trust; a checkpoint file never is.
    checkpoint
        Weights for the config ``source``: name, path or URL.
    head
        ``"classes"`` slices a classifier with more rows than classes to the 19 classes before the soft-max (a notice is
        given); ``"full"`` keeps all rows in the soft-max.
    device
        ``"auto"`` (CUDA if there is one), or a PyTorch device. On the CPU the process keeps freed memory for reuse
        (:mod:`iood_helpers.memory`).
    precision
        ``"bfloat16"`` keeps the weights of products (half the memory) and their inputs to 8 binary digits; the residual
        sums, the sampling of DCNv3 and UPerNet's classifier stay in float32. Faster where the processor multiplies
        bfloat16 faster (matrix units), and only there. Do not mix precisions between fitting and predicting.
    sha256
        Expected checksum of the file if it is downloaded.

    Returns
    -------
    Segmenter

    Raises
    ------
    CheckpointError
        If the file is missing, unsafe, damaged, or does not fit the model.
    """
    if head not in ("classes", "full"):
        raise CheckpointError(f"Unknown head {head!r}; use 'classes' or 'full'.")
    if precision not in ("float32", "bfloat16"):
        raise CheckpointError(f"Unknown precision {precision!r}; use 'float32' or 'bfloat16'.")
    loaded = load_checkpoint(source if checkpoint is None else checkpoint, sha256)
    if checkpoint is None:
        config = _own_config(loaded)
        config["data_preprocessor"] = MODELS.build(config["data_preprocessor"])  # its statistics are in no checkpoint
        with torch.device("meta"):  # neither memory nor time for random weights
            model = MODELS.build(ConfigDict(config))
    else:
        config = _mmseg_config(source)
        for part in ("decode_head", "auxiliary_head"):
            rows = loaded.state_dict.get(f"{part}.conv_seg.weight")
            if rows is not None and config.get(part):
                config[part]["num_classes"] = rows.shape[0]
        model = MODELS.build(ConfigDict(config))
    load_strictly(model, loaded)
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
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if str(device) == "cpu":
        keep_freed_memory()
    return Segmenter(model, loaded, head=head, device=device, precision=precision)


def _own_config(loaded: Checkpoint) -> dict[str, Any]:
    state = loaded.state_dict
    if loaded.size is None or loaded.num_classes is None or "decode_head.fpn_bottleneck.conv.weight" not in state:
        raise CheckpointError(
            f"The checkpoint {loaded.path} is not an InternImage + UPerNet segmenter of a known size; "
            "give its mmseg config first: load_segmenter(config, checkpoint)."
        )
    config = model_config(
        loaded.size,
        num_classes=loaded.num_classes,
        head_channels=state["decode_head.fpn_bottleneck.conv.weight"].shape[0],
    )
    auxiliary = state.get("auxiliary_head.convs.0.conv.weight")
    if auxiliary is None:
        del config["auxiliary_head"]
    else:
        config["auxiliary_head"]["channels"] = auxiliary.shape[0]
    return config


def _mmseg_config(source: Any) -> dict[str, Any]:
    try:
        config = source if isinstance(source, dict) else Config.fromfile(str(source)).to_dict()
    except Exception as error:  # a config can fail in as many ways as Python can
        raise CheckpointError(f"The mmseg config {source} could not be read ({error}); check the file.") from error
    config = dict(config.get("model", config))
    config.setdefault("_scope_", "mmseg")
    config.pop("pretrained", None)
    for part in (config, config.get("backbone", {})):
        part.pop("init_cfg", None)  # weights come from the checkpoint, nothing is fetched behind its back
        part.pop("pretrained", None)
    for part in ("backbone", "decode_head", "auxiliary_head"):
        norm = (config.get(part) or {}).get("norm_cfg")
        if norm and norm.get("type") == "SyncBN":
            norm["type"] = "BN"  # same state dict, and runs on one process
    return config
