"""``python -m iood_helpers.checkpoints``: what is in a file, and the same numbers as safetensors."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from measuring import peak_memory
from random_weights import random_state
from safetensors import safe_open
from synthetic_checkpoint import write_official_checkpoint

from iood_helpers import checkpoints as command
from iood_helpers import load_segmenter
from iood_helpers.command.cli import main
from iood_helpers.errors import CheckpointError
from iood_helpers.io import data_dir
from iood_helpers.model.checkpoints import file_sha256, load_checkpoint

NANO = data_dir() / "checkpoints" / "nano.pth"


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return write_official_checkpoint(tmp_path_factory.mktemp("weights") / "official.pth", "nano")


def test_the_same_numbers_in_the_same_precision(official, tmp_path, capsys):
    out = tmp_path / "w.safetensors"
    assert command.main(["convert", str(official), str(out)]) == 0 and "float16" in capsys.readouterr().out
    one, other = load_checkpoint(official), load_checkpoint(out)
    assert list(one.state_dict) == sorted(other.state_dict, key=list(one.state_dict).index)
    assert all(
        torch.equal(one.state_dict[name], other.state_dict[name]) for name in one.state_dict
    )  # read, not computed
    assert (one.size, one.num_classes, one.stored) == (other.size, other.num_classes, other.stored)
    with safe_open(str(out), "pt") as stream:
        assert stream.metadata() == {"format": "pt", "source": "official.pth", "source_sha256": one.sha256}
    assert out.stat().st_size < official.stat().st_size


def test_inspect_says_what_would_be_used(official, capsys):
    assert main(["checkpoint", "inspect", str(official), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["size"], found["head rows"], found["used rows"], found["stored"]) == ("nano", 150, 19, "float16")
    assert found["sha256"] == file_sha256(official) and found["bytes"] == official.stat().st_size
    assert found["network"] == "InternImage + UPerHead + auxiliary" and found["problem"] is None
    assert main(["checkpoint", "inspect", "nano"]) == 0
    out = capsys.readouterr().out
    assert "head rows   19\n" in out and "problem     none\n" in out and str(NANO) in out


def test_what_does_not_load_by_itself_is_told(tmp_path, capsys):
    torch.save(random_state({"x.weight": (3, 4), "x.bias": (3,)}), tmp_path / "other.pth")
    assert command.main(["inspect", str(tmp_path / "other.pth")]) == 1
    out = capsys.readouterr().out
    assert "parameters  15\n" in out and "give its mmseg config first" in out
    assert command.main(["inspect", str(tmp_path / "none.pth")]) == 1
    assert "neither a file nor a known name" in capsys.readouterr().err


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="end in .safetensors"):
        command.convert_checkpoint("nano", tmp_path / "w.pth")
    assert main(["checkpoint", "convert", "nano", str(tmp_path / "w.pth")]) == 1 and not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_loading_takes_little_more_memory_than_the_weights(tmp_path):
    path = write_official_checkpoint(tmp_path / "t.pth", "t", half=False, rows=19)
    command.convert_checkpoint(path, tmp_path / "t.safetensors")
    load_segmenter(path)  # what a process needs once is there
    for source in (path, tmp_path / "t.safetensors"):
        assert 0.9 < peak_memory(lambda: load_segmenter(source)) / path.stat().st_size < 1.3, source.name  # noqa: B023
