"""Profiles, ``--set``, run records, metrics and notebooks: JSON and YAML that people write or that a run leaves.

There are no checksums: what is accepted has to be what the runner asks for, everything else is told.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from random import Random

from iood_helpers.course import artifacts
from iood_helpers.course import record as run_record
from iood_helpers.course import runner as run
from iood_helpers.errors import IoodError

from ..cases import Case, demand
from ..mutators import VALUES, as_text, damaged, damaged_json, odd_text

NOTEBOOKS = ("01_one", "02_two")


def _cell(kind: str, source: str, *tags: str) -> dict:
    cell = {"cell_type": kind, "id": f"c{len(source)}", "metadata": {"tags": list(tags)}, "source": source}
    return cell | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def prepare(folder: Path) -> dict:
    one = 'run_dir = "runs/mini"\nlevels = [0, 2]\nseed = 0\nlimit = None\n'
    two = 'run_dir = "runs/mini"\nstrength = 2.5\ndata_root = None\n'
    notebooks = {
        name: {
            "cells": [_cell("markdown", "# Title"), _cell("code", source, "parameters"), _cell("code", "print(seed)")],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        for name, source in zip(NOTEBOOKS, (one, two), strict=True)
    }
    profile = "run_dir: runs/mini\nlevels: [0, 2]\nseed: 0\nlimit: null\nstrength: 2.5\ndata_root: null\n"
    metrics = {"miou_valid": 0.5, "ece_valid": 0.1, "auroc_invalid": None, "nothing": float("nan")}
    # no notebook is executed, and the repository is asked nothing
    run_record.git_commit = lambda *_: None
    run._execute = lambda *_, **__: None
    material = {"notebooks": notebooks, "profile": profile, "metrics": metrics}
    place = folder / "root"
    _write(material, place)
    _point_to(place)
    code, said = _call(["--profile", "mini", "--run-dir", str(folder / "run")])
    if code:
        raise RuntimeError(f"the intact profile is refused: {said}")
    material["record"] = json.loads((folder / "run" / "run.json").read_text())
    return material


def _write(material: dict, root: Path) -> None:
    (root / "notebooks/parameters").mkdir(parents=True)
    (root / "book").mkdir()
    chapters = "".join(f"  - file: notebooks/{name}\n" for name in NOTEBOOKS)
    (root / "book/_toc.yml").write_text(f"format: jb-book\nroot: index\nparts:\n- caption: x\n  chapters:\n{chapters}")
    for name, content in material["notebooks"].items():
        (root / f"notebooks/{name}.ipynb").write_text(json.dumps(content))
    (root / "notebooks/parameters/mini.yml").write_text(material["profile"])


def _point_to(root: Path) -> None:
    """Let the runner look for notebooks, profiles and the book's contents here."""
    for module in (run, artifacts):
        for name, value in (("ROOT", root), ("NOTEBOOKS", root / "notebooks"), ("BOOK", root / "book")):
            if hasattr(module, name):
                setattr(module, name, value)


def _call(arguments: list[str]) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            code = run.main(arguments)
        except SystemExit as stop:  # argparse has told what is wrong
            code = stop.code
    return code, said.getvalue()


def make(material: dict, rng: Random, folder: Path) -> Case:
    root = folder / "root"
    _write(material, root)
    _point_to(root)
    kind = rng.choice(
        (
            "profile",
            "profile",
            "set",
            "set",
            "set",
            "record",
            "record",
            "notebook",
            "notebook",
            "metrics",
            "metrics",
            "toc",
            "options",
        )
    )
    arguments = ["--profile", "mini", "--run-dir", str(folder / "run")]
    names: tuple[str, ...] = ()
    if kind == "metrics":
        return _metrics(material, rng, folder)
    if kind == "profile":
        path = root / "notebooks/parameters/mini.yml"
        content, what = _yaml(material["profile"], rng)
        path.write_bytes(content)
        names = ("mini",)
    elif kind == "toc":
        path = root / "book/_toc.yml"
        content, what = damaged(path.read_bytes(), rng) if rng.random() < 0.6 else odd_text(rng)
        path.write_bytes(content)
        names = ("_toc.yml", "notebooks", "nknown")
    elif kind == "set":
        what = _setting(rng)
        arguments += ["--set", what]
        names = ("--set", "nknown", what.split("=")[0] or "''")
    elif kind == "options":
        options = rng.choice(
            (
                ["--only", "9"],
                ["--only", ""],
                ["--from", "\0"],
                ["--profile", "../mini"],
                ["--profile", ""],
                ["--only", "02"],
                ["--list"],
                ["--run-dir", "\0"],
                ["--run-dir", str(root / "book/_toc.yml" / "x")],
                ["--run-dir", ""],
            )
        )
        arguments += options
        what = str(options)
        names = ("nknown", "run folder", *options)
    elif kind == "record":
        (folder / "run").mkdir()
        content, what = damaged_json(material["record"], rng)
        content = as_text(content)
        if rng.random() < 0.25:
            content, what = odd_text(rng)
        (folder / "run/run.json").write_bytes(content)
        arguments += ["--only", "02"]
        names = ("run.json",)
    else:
        path = root / f"notebooks/{rng.choice(NOTEBOOKS)}.ipynb"
        content, what = _notebook(json.loads(path.read_text()), rng)
        path.write_bytes(content)
        names = (path.stem, "nknown parameter")  # a parameter may be lost with its cell

    def check(found):
        code, said = found
        if code:
            demand(
                "Traceback" not in said and any(name in said for name in names if name),
                f"the file is not named: {said[-300:]}",
            )
            raise IoodError(said.strip())  # told as it should be: a refusal
        if "--list" in arguments or not (folder / "run/run.json").exists():
            return
        record = json.loads((folder / "run/run.json").read_text())
        demand(
            record["status"] == "complete" and isinstance(record["parameters"], dict), f"a record of {record['status']}"
        )
        demand(set(record["notebooks"]) <= set(NOTEBOOKS), f"notebooks {list(record['notebooks'])[:5]}")

    if kind == "options" and "" in arguments:
        arguments = [*arguments[:2], *arguments[-2:]]
        if arguments[-2] == "--run-dir":
            arguments += ["--run-dir", str(folder / "run")]
    return Case(f"{kind}: {what}", names, lambda: _call(arguments), check, writes=True)


def _yaml(profile: str, rng: Random) -> tuple[bytes, str]:
    way = rng.choice(("bytes", "value", "value", "text", "line"))
    if way == "bytes":
        return damaged(profile.encode(), rng)
    if way == "text":
        return odd_text(rng)
    lines = profile.splitlines()
    if way == "line":
        line = rng.choice(
            (
                "levels: [",
                "seed: *x",
                "x: 1",
                "1: 2",
                "- a",
                "null: 3",
                "seed: !!python/name:os.system",
                "seed: !!int x",
                "true: false",
                "run_dir: [a]",
                "%YAML 9.9",
                "---",
                "seed: 1e999",
                "? - a\n: b",
            )
        )
        lines.insert(rng.randrange(len(lines) + 1), line)
        return "\n".join(lines).encode(), line
    at = rng.randrange(1, len(lines))
    value = json.dumps(rng.choice(VALUES))
    lines[at] = f"{lines[at].split(':')[0]}: {value}"
    return "\n".join(lines).encode("utf-8", "surrogatepass"), lines[at][:60]


def _setting(rng: Random) -> str:
    value = rng.choice(
        (
            "[1",
            "{",
            "&a [*a]",
            "!!python/object/apply:os.system [touch CANARY]",
            "*x",
            "1e999",
            ".nan",
            "2020-13-45",
            "0b2",
            "\t",
            "a: b: c",
            "null",
            "!!binary x",
            "'",
            "%",
            "@a",
            "`",
            "1",
            "[0, 2]",
            "9" * 5000,
            "[" * 3000,
            "a" * 10_000,
            "0o9",
            "1:99:99",
            "!!timestamp x",
            "!!float x",
            "{[1]: 2}",
            "{{a: 1}: 2}",
            "\x01",
            "\x85",
            "<<: 1",
            "{<<: [1]}",
        )
    )
    return rng.choice(
        (
            f"seed={value}",
            f"strength={value}",
            f"levels={value}",
            f"limit={value}",
            f"sed={value}",
            f"={value}",
            value.replace("=", "") or "x",
            f"data_root={value}",
        )
    )


def _notebook(content: dict, rng: Random) -> tuple[bytes, str]:
    way = rng.choice(("json", "json", "bytes", "source", "source", "text"))
    if way == "json":
        content, what = damaged_json(content, rng)
        return as_text(content), what
    if way == "bytes":
        return damaged(json.dumps(content).encode(), rng)
    if way == "text":
        return odd_text(rng)
    cell = content["cells"][1]
    cell["source"] = rng.choice(
        (
            "seed = open('CANARY', 'w')",
            "import os",
            "seed = 1 +",
            "a, b = 1, 2",
            "seed: int = 0",
            "x[0] = 1",
            "seed = " + "(" * 500 + ")" * 500,
            "seed = " + "-" * 5000 + "1",
            "\0",
            "seed = 1\n\tx = 2",
            "seed = " + "9" * 5000,
            "seed += 1",
            "",
            "# nothing",
            "a.b = 1",
            "seed = [*range(3)]",
            "seed = 'x' * 10**10",
            "seed = {[]: 1}",
            "seed = {{1}}",
            "if True: pass",
            "\ud800 = 1",
            "seed = b'x'",
            "seed = 1j",
            "seed = ...",
        )
    )
    return as_text(content), f"parameters {cell['source'][:40]!r}"


def _metrics(material: dict, rng: Random, folder: Path) -> Case:
    path = folder / "metrics/02_two.json"
    path.parent.mkdir()
    way = rng.choice(("json", "json", "bytes", "text"))
    if way == "json":
        changed, what = damaged_json(material["metrics"], rng)
        content = as_text(changed)
    elif way == "bytes":
        content, what = damaged(json.dumps(material["metrics"]).encode(), rng)
    else:
        content, what = odd_text(rng)
    path.write_bytes(content)

    def check(found):
        demand(isinstance(found, dict), f"metrics of type {type(found).__name__}")
        for name, value in found.items():
            demand(
                value is None or (isinstance(value, int | float) and not isinstance(value, bool)),
                f"{name} is {value!r:.80}",
            )

    return Case(f"metrics: {what}", (path.name,), lambda: artifacts.read_metrics(folder, "02_two"), check)
