"""Statistics of what is normal to a shipped network, from the shipped scenes: python data/fit_nano.py.

They are what the notebooks fit: clusters on labelled pixels of ``train-fit``, calibrated on ``train-calibration``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from iood_helpers import PixelEmbedder, extract_embeddings, load_dataset
from iood_helpers.command.pipeline import LEVELS, learn, load_network, network
from iood_helpers.io import data_dir

SHARED = 500
"""Half as many shared centres as in the notebooks: the file stays below a megabyte."""
BOUND = 5.0
"""That for rendered scenes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="default: beside the checkpoint")
    args = parser.parse_args()
    segmenter = load_network(args.model, device="cpu")
    how = {"n_per_class": 2000, "seed": args.seed}
    with tempfile.TemporaryDirectory() as folder:
        fit, calibration = (
            extract_embeddings(
                segmenter, load_dataset(f"mini/train-{part}"), PixelEmbedder(LEVELS), path, per=per, **how
            )
            for part, per, path in (
                ("fit", "label", Path(folder) / "fit"),
                ("calibration", "predicted", Path(folder) / "calibration"),
            )
        )
        about = {"model": args.model, "pictures": len(fit.names) + len(calibration.names), "bound": BOUND}
        about |= network(segmenter)
        held_out = load_dataset("mini/train-calibration")
        statistics = learn(fit, calibration, segmenter, held_out, n_clusters=30, n_shared=SHARED, **how, about=about)
    print(statistics.save(args.out or data_dir() / "checkpoints" / f"{args.model}.statistics.safetensors"))


if __name__ == "__main__":
    main()
