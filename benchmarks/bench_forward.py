"""A whole forward pass on the CPU, random weights: this package against the same modules without its short cuts."""

from __future__ import annotations

import json
import statistics
import sys
from functools import partial

import mmseg.models  # noqa: F401  (registers heads and segmentors)
import torch
from measuring import in_turn, peak_memory, report, row
from mmengine.config import ConfigDict
from mmseg.registry import MODELS

from iood_helpers.model import internimage
from iood_helpers.model.dcnv3 import dcnv3
from iood_helpers.model.fast import uper_head, winograd
from iood_helpers.model.fast.malloc import keep_freed_memory
from iood_helpers.model.sizes import model_config

plain_dcnv3 = partial(dcnv3, backend="torch")
is_faster = winograd.is_faster


def never(*_: object) -> bool:
    """Answer of ``winograd.pays`` that leaves all convolutions to PyTorch."""
    return False


def main(sizes: list[str]) -> None:
    for size in sizes:
        torch.manual_seed(0)
        model = MODELS.build(ConfigDict(model_config(size, num_classes=19))).eval()
        head, image = model.decode_head, torch.randn(1, 3, 512, 1024)

        def usual_head(core, model=model, head=head, image=image) -> torch.Tensor:
            internimage.dcnv3 = core
            return head(model.extract_feat(image))

        def our_head(is_faster=is_faster, model=model, head=head, image=image) -> torch.Tensor:
            internimage.dcnv3, winograd.is_faster = dcnv3, is_faster
            return head.cls_seg(uper_head.decoder_features(head, model.extract_feat(image)))

        plain = partial(usual_head, plain_dcnv3)

        def kept(our_head=our_head) -> None:  # what the first images pay and no other
            keep_freed_memory()
            for _ in range(2):
                our_head()

        wanted, got = plain(), our_head()
        agreement = f"largest difference of logits {(wanted - got).abs().max():.0e} of {wanted.abs().max():.0f}"
        # Peak memory is that of a first image: kept memory would hide it.
        memory = [peak_memory(plain), peak_memory(our_head)]
        forget = partial(keep_freed_memory, False)
        steps = {
            "plain": (forget, plain),
            "compiled DCNv3 core": (forget, partial(usual_head, dcnv3)),
            "merge convolved, then enlarged": (forget, partial(our_head, never)),
            "fewer products in 3x3 layers": (forget, our_head),
            "freed memory kept": (kept, our_head),
        }
        times = in_turn(list(steps.values()))
        what = f"InternImage-{size.upper()} + UPerNet, 512 x 1024"
        report([row(what, times, memory, agreement)])
        for number, step in enumerate(steps):
            taken = statistics.median(each[number] for each in times)
            ratio = statistics.median(each[0] / each[number] for each in times)
            print(json.dumps({"model": size, "step": step, "seconds": taken, "ratio": ratio}), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main(sys.argv[1:] or ["t", "xl"])
