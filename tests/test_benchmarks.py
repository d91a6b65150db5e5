"""The benchmarks' runner knows every script, and makes a table of what each kind of line says."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import measuring
import pytest
import record_photographs
import run as benchmarks
from conftest import ROOT

FOLDER = ROOT / "benchmarks"


def test_every_script_is_run():
    alone = {"bench_scale"}  # takes long, and writes a table of its own
    assert {path.stem for path in FOLDER.glob("bench_*.py")} - alone | {"cost_model"} == set(benchmarks.SCRIPTS)


def test_lines_become_tables():
    compared = {"what": "thing", "plain": 2.0, "ours": 0.5, "ratio": 4.0, "plain_memory": 2_000_000_000}
    lines = [
        {"first_call": 2.5, "later": 0.5},
        compared | {"ours_memory": 3_000_000, "agreement": "equal"},
        compared | {"plain": None, "ratio": None, "plain_memory": None, "ours_memory": 1, "agreement": "-"},
        {"model": "t", "step": "plain", "seconds": 3.0, "ratio": 1.0},
        {"model": "xl", "step": "plain", "seconds": 9.0, "ratio": 1.0},
        {"model": "nano", "flop": 2e9, "weights": 1e6, "memory": 1e6, "process": 1e9}
        | {"predicted": 0.01, "measured": 3.6},
    ]
    text = benchmarks.results(lines).replace(benchmarks.SPACE, " ")
    assert "| thing | 2.00 s | 500 ms | 4.0 x | 2.00 GB | 3 MB | equal |" in text
    assert "| thing | - | 500 ms | - | - | 0 MB | - |" in text
    assert "| Step | T | XL |" in text and "| plain | 3.00 s, 1.00 x | 9.00 s, 1.00 x |" in text
    # 3.6 s for a quarter of an image: 14.4 s for a whole one, 4 h for every 1000
    assert "| 13.9 h | 12.0 h |" in text
    assert "compiles it and takes 2.50 s" in text and "bfloat16" not in text


def test_the_picture_shows_every_step(tmp_path):
    rows = [{"model": m, "step": s, "seconds": 2.0} for m in ("t", "xl") for s in ("plain", "faster")]
    benchmarks.picture(rows, tmp_path / "speed.svg")
    drawn = (tmp_path / "speed.svg").read_text()
    for words in ("InternImage-T + UPerNet", "InternImage-XL + UPerNet", "+ faster", "2.0 s"):
        assert f"<!-- {words}" in drawn or f"<!--  {words}" in drawn, words


def test_runs_become_tables(chain):
    detectors = json.loads((chain / "detectors.json").read_text())
    text = record_photographs.detectors(chain)
    for name, row in detectors["smoothed"].items():
        found, plain = f"{row['auroc_ood']:.3f} | {row['auprc_ood']:.3f} | ", detectors["plain"][name]["auprc_ood"]
        assert f"| {name} | {found}{row['fpr95_ood']:.3f} | {plain:.3f} |" in text
    metrics = json.loads((chain / "metrics" / "05_refine_confidences.json").read_text())
    text = record_photographs.found(chain)
    assert f"| surplus | {metrics['surplus_auroc_ood']:.3f} | " in text
    assert f"{metrics['class_prior_fpr95_ood']:.3f} | 0.500 |" in text
    assert "| no KMeans | " in record_photographs.audited(chain) and "commit" in record_photographs.origin(chain)
    text = record_photographs.semantic({"A": chain, "B": chain}, {"ACDCfog": "fog"})
    assert text.count("| fog | as it is |") == 1 and "calibrated on B" in text and "| - |" not in text


def test_measurements_become_tables():
    metrics = {"auroc_ood": 0.91, "auprc_ood": 0.5, "fpr95_ood": 0.2, "auroc_within_class": 0.7}
    scores = dict.fromkeys(("raw", "distance", "surplus"), metrics)
    shares = {"raw": 0.5, "distance": 0.012, "surplus": 0.03}
    measured = {
        "kinds": {"animals": {"images": 2, **scores}, "vehicle": {"images": 1, **scores}},
        "false": {"camvid/test": shares},
        "classes": {"labelmefacade/all": {"road": {"share": 0.4} | shares, "bus": {"share": 0.001} | shares}},
        "town": {"curve": {"1": [[0.001, 0.02, 0.1], [0.01, 0.06, 0.2]]}},
    }
    assert "| animals (2 images) | raw | 0.910 | 0.500 | 0.200 | 0.700 |" in record_photographs.by_kind(measured)
    assert "vehicle" not in record_photographs.by_kind(measured)
    text = record_photographs.false_alarms(measured)
    assert (
        "| camvid/test | 50.0 % | 1.2 % | 3.0 % |" in text
        and "| road | 40.0 % | 1 % | 3 % |" in text
        and "bus" not in text
    )
    assert "| 1 | 2.0 % (0.1 to 10.0) | 6.0 % (1.0 to 20.0) |" in record_photographs.own_town(measured)
    page = record_photographs.fill("a\n<!-- found -->\nold\n<!-- end -->\nb\n<!-- end -->", {"found": "new"})
    assert page == "a\n<!-- found -->\n\nnew\n\n<!-- end -->\nb\n<!-- end -->"


def test_the_page_has_a_place_for_every_table():
    text = record_photographs.PAGE.read_text()
    for name in ("found", "kinds", "detectors", "audit", "semantic", "town-found", "false", "town", "camvid"):
        assert text.count(f"<!-- {name} -->") == 1


def test_a_script_that_fails_is_shown(monkeypatch, tmp_path):
    (tmp_path / "bench_bad.py").write_text("raise ValueError('out of luck')")
    monkeypatch.setattr(benchmarks, "HERE", tmp_path)
    monkeypatch.setattr(benchmarks, "SCRIPTS", {"bench_bad": [()]})
    with pytest.raises(SystemExit, match="out of luck"):
        benchmarks.lines_of("bench_bad")


def test_the_measured_peak_is_what_a_call_needs():
    if not sys.platform.startswith("linux"):
        pytest.skip("peaks are read from /proc, which only Linux has")
    code = (
        "import json, numpy as np; from measuring import compare;"
        "row = compare('x', lambda: np.ones(50_000_000), lambda: np.ones(5_000_000), '', rounds=5);"
        "print(json.dumps(vars(row)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(FOLDER)}
    row = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True, env=environment))
    assert 390e6 < row["plain_memory"] < 420e6 and 35e6 < row["ours_memory"] < 50e6


def test_the_ratio_is_the_median_over_the_rounds():
    row = measuring.row("x", [[4.0, 7.0, 1.0], [6.0, 7.0, 2.0], [9.0, 7.0, 1.0]], [1, 2], "")
    assert (row.plain, row.ours, row.ratio) == (6.0, 1.0, 4.0)  # not 6, the ratio of the medians
    order = []
    ways = [(lambda n=n: order.append(f"prepare {n}"), lambda n=n: order.append(n)) for n in "ab"]
    assert len(measuring.in_turn(ways, rounds=2)) == 2
    assert order == ["prepare a", "a", "prepare b", "b"] * 2
