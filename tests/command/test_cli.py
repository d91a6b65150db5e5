"""``iood``: help, exit codes, and the other commands under one roof."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint

import pytest
from conftest import ROOT

from iood_helpers.command import cli
from iood_helpers.command.cli import main
from iood_helpers.errors import FileError


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0 and f"usage: iood {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [[], ["nothing"], ["predict"], ["predict", "x", "--every", "0"], ["check", "mini"], ["run", "--nothing"]]
)
def test_wrong_usage_is_two(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and "usage: iood" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["encode", "none", "samples.tar", "out.tar"], "predictions none does not exist"),
        (["evaluate", "gt.tar", "submission.tar", "samples.tar"], "gt.tar"),
        (["check", "nothing", "."], "no dataset 'nothing'"),
        (["run", "--profile", "nothing"], "profile"),
        (["predict", "nothing"], "nothing"),
    ],
)
def test_errors_are_one_sentence_and_one(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    err = capsys.readouterr().err
    assert err.startswith("iood: ") and err.count("\n") == 1 and message in err
    assert not list(tmp_path.iterdir())


def test_other_commands_do_what_they_do_elsewhere(capsys):
    assert main(["run", "--list"]) == 0
    assert "00_the_method_in_ten_minutes" in capsys.readouterr().out
    from iood_helpers.io import data_dir

    assert main(["check", "mini/val", str(data_dir() / "mini"), "--limit", "1"]) == 0
    assert "mini/val: 60 images" in capsys.readouterr().out


def test_the_runner_asks_for_its_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "iood_helpers.course", None)
    monkeypatch.setitem(sys.modules, "iood_helpers.course.runner", None)
    assert main(["run"]) == 1
    assert "pip install '.[book]'" in capsys.readouterr().err


def test_ctrl_c_and_notes(capsys, monkeypatch):
    import warnings

    def interrupted(args):
        warnings.warn_explicit("look out", UserWarning, "x.py", 1, module="iood_helpers.x")
        warnings.warn_explicit("not ours", UserWarning, "y.py", 1, module="mmcv.y")
        raise KeyboardInterrupt

    def failed(args):
        raise FileError("The disk is full.")

    for execute, code in ((interrupted, 130), (failed, 1)):
        monkeypatch.setitem(cli.COMMANDS, "check", ("help", lambda parser, e=execute: parser.set_defaults(execute=e)))
        assert main(["check"]) == code
    err = capsys.readouterr().err
    assert "note: look out\n" in err and "not ours" not in err and "iood: The disk is full.\n" in err


def test_completion_knows_the_options(capsys):
    assert main(["completion", "bash"]) == 0
    out = capsys.readouterr().out
    assert "--kmeans" in out and "--profile" in out and "bfloat16" in out


def test_help_is_quick_and_the_module_is_the_command():
    code = (
        "import sys; from iood_helpers.command.cli import build_parser; build_parser([]); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
    ended = subprocess.run([sys.executable, "-m", "iood_helpers", "--version"], capture_output=True, text=True)
    assert ended.returncode == 0 and ended.stdout.startswith("iood 0.")


def test_the_installed_script_is_this_command():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert EntryPoint("iood", project["scripts"]["iood"], "console_scripts").load() is main
