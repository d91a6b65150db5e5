"""Reading a checkpoint of XL from disk: weights given to an empty model, against weights copied into a random one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mmseg.models  # noqa: F401  (registers heads and segmentors)
import torch
from measuring import compare, report
from mmengine.config import ConfigDict
from mmseg.registry import MODELS

from iood_helpers.model import internimage  # noqa: F401  (registers the backbone)
from iood_helpers.model.checkpoints import file_sha256
from iood_helpers.model.fast.malloc import keep_freed_memory
from iood_helpers.model.segmenter import load_segmenter
from iood_helpers.model.sizes import model_config


def plain(path: Path) -> torch.nn.Module:
    """What a loader usually does; the checksum is part of both."""
    file_sha256(path)
    model = MODELS.build(ConfigDict(model_config("xl", num_classes=19))).eval()
    model.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    return model


def ours(path: Path) -> torch.nn.Module:
    model = load_segmenter(path).model
    keep_freed_memory(False)  # the next round shall pay for its memory, as the first one did
    return model


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "xl.pth"
        model = MODELS.build(ConfigDict(model_config("xl", num_classes=19)))
        torch.save({"state_dict": model.state_dict()}, path)
        del model
        one, other = plain(path).state_dict(), ours(path).state_dict()
        same = all(torch.equal(one[name], other[name]) for name in one)
        del one, other
        agreement = f"weights equal: {same}"
        report([compare("load XL from disk", lambda: plain(path), lambda: ours(path), agreement)])


if __name__ == "__main__":
    main()
