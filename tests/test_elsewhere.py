"""The page on use from elsewhere: its code runs as it stands, and gives what the usual way gives."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from iood_helpers import load_dataset, load_segmenter

BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "book/elsewhere.md").read_text(), re.MULTILINE | re.DOTALL)
SAVE = """
found = dict(scores=scores, confidence=confidence, classes=classes, distances=distances)
onnx = {f"features_{level}": values for level, values in enumerate(prediction.features)}
onnx |= {name: getattr(prediction, name) for name in ("classes", "logits", "decoder")}
np.savez("found.npz", **found, **{f"onnx_{name}": values for name, values in onnx.items()})
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Folder in which the code has run, what it has found, and the usual prediction of its last image."""
    pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "maps").mkdir()
    segmenter = load_segmenter("nano", device="cpu")
    for number, sample in enumerate(load_dataset("mini/val", limit=7)):
        image = np.asarray(sample.image())
        usual = segmenter.predict(image)
        np.savez(folder / "maps" / f"{number}.npz", features=usual.decoder, logits=usual.logits)
    Image.fromarray(image).save(folder / "street.png")
    shutil.copy(ROOT / "data/checkpoints/nano.pth", folder)
    (config,) = (block for block in BLOCKS if block.startswith("# config.py"))
    (folder / "config.py").write_text(config)
    script = "".join(block for block in BLOCKS if block is not config) + SAVE
    result = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return folder, np.load(folder / "found.npz"), usual


def test_arrays_alone_are_enough(page):
    _, found, usual = page
    assert found["scores"].shape == usual.logits.shape[1:] and found["scores"].std() > 0
    assert found["confidence"].shape == usual.shape
    assert (found["confidence"] <= usual.confidence + 1e-5).all() and found["confidence"].mean() > 0.5
    assert found["distances"].shape[1] == 19


def test_mmseg_predicts_with_the_backbone(page):
    _, found, usual = page
    assert (found["classes"] == usual.classes).mean() > 0.999 and len(np.unique(usual.classes)) > 3


def test_another_runtime_predicts_the_same(page):
    _, found, usual = page
    maps = {f"features_{level}": values for level, values in enumerate(usual.features)}
    for name, values in (maps | {"logits": usual.logits, "decoder": usual.decoder}).items():
        np.testing.assert_allclose(found[f"onnx_{name}"], values, atol=1e-4 * abs(values).max(), err_msg=name)
    assert (found["onnx_classes"] == usual.classes).mean() > 0.999
