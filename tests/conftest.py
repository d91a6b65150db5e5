"""What several test files share: small stand-ins for predictions, and one run of the whole chain."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"

NUMBERS = (
    *("dcnv3", "internimage", "uper_head", "winograd", "segmenter", "embedder", "kmeans", "refinement", "detectors"),
    *("published", "store", "metrics", "statistics", "sampling", "notebooks", "efficientvit", "anomaly_metrics"),
    *("components", "surplus", "explorables", "prediction", "views"),
)
"""Modules whose tests compare numbers: another processor computes them in another order."""


SLOW = (
    *("notebooks", "lab", "book", "browser", "pages", "rehearsal", "fuzzing", "interruptions", "render", "benchmarks"),
    *("doctests", "elsewhere"),
)
"""Modules that run notebooks, builds, or many processes."""


def pytest_collection_modifyitems(items):
    for item in items:
        name = item.path.stem.removeprefix("test_")
        for marker, modules in (("numbers", NUMBERS), ("slow", SLOW)):
            if name in modules:
                item.add_marker(marker)


SMALL = {
    "limit": 6,
    "n_per_class": 200,
    "n_clusters": 8,
    "n_shared": 300,
    "umap_points": 480,
    "umap_neighbors": 8,
    "bootstrap_draws": 30,
}
"""Parameters under which the whole chain takes about a minute."""


def make_prediction(seed=0, size=(37, 50), widths=(3, 4, 5, 6), decoder=4):
    """Random prediction with a pyramid of the right proportions."""
    from iood_helpers.model.segmenter import Prediction

    rng = np.random.default_rng(seed)
    shapes = [tuple(-(-s // stride) for s in size) for stride in (4, 8, 16, 32)]
    features = tuple(rng.normal(size=(w, *s)).astype(np.float32) for w, s in zip(widths, shapes, strict=True))
    return Prediction(
        classes=rng.integers(0, 3, size).astype(np.uint8),
        confidence=rng.uniform(0.1, 1, size).astype(np.float32),
        logits=rng.normal(size=(19, *shapes[0])).astype(np.float32),
        features=features,
        decoder=rng.normal(size=(decoder, *shapes[0])).astype(np.float32),
    )


@pytest.fixture
def prediction():
    return make_prediction()


@pytest.fixture(scope="session")
def chain(tmp_path_factory):
    """Run folder of the whole chain on the shipped data with small parameters."""
    from iood_helpers.course.runner import load_profile, notebook_order, run

    folder = tmp_path_factory.mktemp("run")
    parameters = {**load_profile("mini"), **SMALL, "run_dir": str(folder)}
    run(notebook_order(), parameters, profile="mini", book=folder / "book")
    return folder


MADE = ("_build", "notebooks", "status.md")


def made_by_the_user() -> dict[str, float]:
    """What a run of the user has left in the book's folder, with its age."""
    places = [path for name in MADE for path in (ROOT / "book").rglob(name)]
    files = [file for place in places for file in (place.rglob("*") if place.is_dir() else [place])]
    return {str(file): file.stat().st_mtime for file in files}


@pytest.fixture(scope="session")
def book(chain, tmp_path_factory):
    """Folder of the book, built elsewhere: that of the user stays as it is."""
    before = made_by_the_user()
    folder = tmp_path_factory.mktemp("book") / "book"
    shutil.copytree(ROOT / "book", folder, ignore=shutil.ignore_patterns(*MADE))
    shutil.copytree(chain / "book", folder / "notebooks")
    for place in ("benchmarks", "data", "data/checkpoints"):
        (folder.parent / place).mkdir()
        for included in (ROOT / place).glob("*.md"):  # by pages
            shutil.copy(included, folder.parent / place)
    command = [sys.executable, str(ROOT / "book" / "build.py"), "--run", str(chain), "--book", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert made_by_the_user() == before
    return folder / "_build" / "html"


@pytest.fixture(scope="session")
def touched():
    """The module ``support/touched.py``, where there is a browser for it."""
    pytest.importorskip("chromium", reason="websocket-client is not installed")
    import chromium
    import touched

    if chromium.find() is None:
        pytest.skip("no Chromium on this machine")
    return touched


@pytest.fixture(scope="session")
def real_data():
    """Folder that IOOD_DATA names."""
    root = os.environ.get("IOOD_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("IOOD_DATA does not name a folder with real photographs")
    return Path(root)
