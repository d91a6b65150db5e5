"""Labels and masks of test splits as the archive that the evaluation reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..datasets.layouts import BRAVO_LAYOUT
from ..datasets.loading import load_dataset
from ..errors import DatasetError
from .archives import write_tar


def pack_ground_truth(
    splits: Sequence[str], out_tar: str | Path, *, root: str | Path | None = None, limit: int | None = None
) -> Path:
    """Pack the label maps and masks of some splits as ``gt.tar``.

    Parameters
    ----------
    splits : sequence of str
        Splits of the benchmark's subsets, such as ``"mini/synobjs"``; every image needs a label map and a mask.
    out_tar : str or Path
        Archive to write, for ``sample_ground_truth`` and ``evaluate_submission``.
    root, limit
        As for ``load_dataset``.

    Raises
    ------
    DatasetError
        If a split is not there, or an image has no label map or no mask.
    """

    def files() -> Iterator[tuple[str, bytes]]:
        for split in splits:
            layout = BRAVO_LAYOUT[split.rpartition("/")[2]]
            for sample in load_dataset(split, root=root, limit=limit):
                base = f"{layout.folder}/{sample.name}"
                for path, ending in ((sample.label_path, layout.label), (sample.invalid_path, layout.mask)):
                    if path is None:
                        raise DatasetError(
                            f"The image {sample.image_path} has no file *{ending} beside it; leave {split} out."
                        )
                    yield base + ending, path.read_bytes()

    return write_tar(out_tar, files())
