"""A notebook runs by hand: "Restart Kernel and Run All Cells" in a real JupyterLab server."""

from __future__ import annotations

import sys

import pytest
from conftest import ROOT
from lab import server

NOTEBOOK = "00_the_method_in_ten_minutes.ipynb"
FEW = "n_clusters, demo_images = 4, 4"
"""The method on a few scenes; this notebook reads no run and leaves nothing."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with server(ROOT / "notebooks", tmp_path_factory.mktemp("lab")) as running:
        yield running


def errors(shown):
    return [content["traceback"] for kind, content in shown if kind == "error"]


def printed(shown):
    return "".join(content["text"] for kind, content in shown if kind == "stream" and content["name"] == "stdout")


def test_restart_and_run_all(lab):
    with lab.notebook(NOTEBOOK) as (content, kernel):
        kernel.run("image = 'of an earlier run'")
        kernel.restart()
        assert errors(kernel.run("image"))  # forgotten
        cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        shown = []
        for cell in cells:
            shown += kernel.run(cell["source"])
            assert not errors(shown), cell["source"] + "\n".join(errors(shown)[0])
            if "parameters" in cell["metadata"].get("tags", []):
                shown += kernel.run(FEW)
    pictures = [c["data"]["text/html"] for kind, c in shown if kind == "display_data" and "text/html" in c["data"]]
    assert sum("<img" in page for page in pictures) == sum("show_images(" in cell["source"] for cell in cells)
    assert "pixels to learn from" in printed(shown)


def test_the_kernel_is_this_environment(lab):
    with lab.notebook(NOTEBOOK) as (_, kernel):
        shown = kernel.run("import sys, iood_helpers; print(sys.executable, iood_helpers.__file__, sep='\\n')")
    assert printed(shown).split() == [sys.executable, str(ROOT / "iood_helpers" / "__init__.py")]


def test_the_page_is_served(lab):
    assert "JupyterLab" in lab.ask("lab")
    listed = {file["name"] for file in lab.ask("api/contents")["content"]}
    assert {path.name for path in (ROOT / "notebooks").glob("*.ipynb")} <= listed
