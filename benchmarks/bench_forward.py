"""A whole forward pass on the CPU, random weights: this package against the same modules without its short cuts."""

from __future__ import annotations

import sys
from functools import partial

import mmseg.models  # noqa: F401  (registers heads and segmentors)
import torch
from measuring import compare, report
from mmengine.config import ConfigDict
from mmseg.registry import MODELS

from iood_helpers import internimage, uper_head
from iood_helpers.configs import model_config
from iood_helpers.dcnv3 import dcnv3
from iood_helpers.memory import keep_freed_memory


def main(sizes: list[str]) -> None:
    for size in sizes:
        torch.manual_seed(0)
        model = MODELS.build(ConfigDict(model_config(size, num_classes=19))).eval()
        image = torch.randn(1, 3, 512, 1024)

        def plain(model=model, image=image) -> torch.Tensor:
            internimage.dcnv3 = partial(dcnv3, backend="torch")
            return model.decode_head(model.extract_feat(image))

        def ours(model=model, image=image) -> torch.Tensor:
            internimage.dcnv3 = dcnv3
            return model.decode_head.cls_seg(uper_head.decoder_features(model.decode_head, model.extract_feat(image)))

        def kept(ours=ours) -> None:  # what the first image pays and no other
            keep_freed_memory()
            ours()

        wanted, got = plain(), ours()
        agreement = f"largest difference of logits {(wanted - got).abs().max():.0e} of {wanted.abs().max():.0f}"
        before = (lambda: keep_freed_memory(False)), kept
        # Peak memory is that of a first image: kept memory would hide it.
        row = compare(
            f"InternImage-{size.upper()} + UPerNet, 512 x 1024", plain, ours, agreement, rounds=3, before=before
        )
        report([row])


if __name__ == "__main__":
    with torch.inference_mode():
        main(sys.argv[1:] or ["t", "xl"])
