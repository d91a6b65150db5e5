"""What the book's explorables show equals what Python computes on the same data."""

from __future__ import annotations

import base64
import io
import json
import queue
import re
import shutil
import subprocess
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import ROOT
from explorables import make_data
from PIL import Image

from iood_helpers.bravo.histograms import auroc, bin_sums, calibration_error, ood_ranking
from iood_helpers.checks import LEVELS as CONFIDENCE_LEVELS
from iood_helpers.course import explorables
from iood_helpers.course.explorables import encode_map
from iood_helpers.course.plots import OOD_COLOR
from iood_helpers.datasets.labels import CLASS_NAMES, PALETTE

BOOK = ROOT / "book"
STATIC = BOOK / "extra" / "explorables"
PREFIX, SUFFIX = 'ioodExplorables.receive("scenes", ', ");\n"
MAPS = ("odds", "distance", "classes", "kinds")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CASES = [
    (scene, rule, threshold)
    for scene in ("sphere", "dog", "deer")
    for rule in ("network", "refined")
    for threshold in (0, 45, 70, 120, make_data.LEVELS)
]
FORMULAS = [("sphere", 2.5, 0.1), ("fog", 0.0, 0.1), ("night", 5.0, 0.02), ("usual", 1.25, 0.5)]
TINTS = {"tp": (0, 200, 255), "fp": (255, 150, 0), "fn": (255, 40, 200)}
DRIVER = """
const until = (root, start) => new Promise((done, refuse) => {
  const look = () => {
    if (root.textContent.startsWith("This figure could not")) refuse(root.textContent);
    else if (root.dataset.ready && root.dataset.ready.startsWith(start)) done();
    else setTimeout(look, 5);
  };
  look();
});
const numbers = (root) => Object.fromEntries([...root.querySelectorAll("[data-number]")].map(
  (element) => [element.dataset.number, Number(element.textContent.replace("\\u2212", "-"))]));
const set = (control, value, kind) => { control.value = value; control.dispatchEvent(new Event(kind)); };
const fail = (error) => fetch("/found", { method: "POST", body: JSON.stringify({ error: String(error) }) });
window.onerror = fail;
window.onunhandledrejection = (event) => fail(event.reason);
const receive = ioodExplorables.receive;
let scenes;
ioodExplorables.receive = (source, content) => { scenes = content.scenes; receive(source, content); };
/* How many pixels of the picture are tinted in which color: 0.7 of it over the scene. */
async function tinted(root, key) {
  const canvas = root.querySelector("canvas"), plain = document.createElement("canvas"), picture = new Image();
  [plain.width, plain.height] = [canvas.width, canvas.height];
  picture.src = scenes.find((scene) => scene.key === key).image;
  await picture.decode();
  plain.getContext("2d").drawImage(picture, 0, 0);
  const [under, seen] = [plain, canvas].map((c) => c.getContext("2d").getImageData(0, 0, c.width, c.height).data);
  const counts = {};
  for (const [name, color] of Object.entries(TINTS)) {
    counts[name] = 0;
    for (let i = 0; i < seen.length; i += 4)
      counts[name] += [0, 1, 2].every((c) => Math.abs(seen[i + c] - 0.7 * color[c] - 0.3 * under[i + c]) < 2);
  }
  return counts;
}
(async () => {
  const found = { thresholds: [], formulas: [] };
  const [first, second] = ["threshold", "formula"].map((name) => document.querySelector(`[data-explorable=${name}]`));
  await until(first, "");
  let [scene, rule] = first.querySelectorAll("select"), [slider] = first.querySelectorAll("input");
  for (const [key, mode, threshold] of CASES) {
    if (scene.value !== key) set(scene, key, "change");
    if (rule.value !== mode) set(rule, mode, "change");
    await until(first, `${key} ${mode} `);
    set(slider, threshold, "input");
    found.thresholds.push({ ...numbers(first), tinted: await tinted(first, key) });
    if (threshold === 70) {
      first.querySelector("button").click();
      found.thresholds[found.thresholds.length - 1].recallAt95 = numbers(first).recall;
      found.thresholds[found.thresholds.length - 1].fprAt95 = numbers(first).fpr;
    }
  }
  found.early = second.dataset.ready !== undefined;
  second.scrollIntoView();
  await until(second, "");
  const [strength, width] = second.querySelectorAll("input");
  for (const [key, s, w] of FORMULAS) {
    const choice = second.querySelector("select");
    if (choice.value !== key) set(choice, key, "change");
    await until(second, `${key} `);
    set(strength, s, "input");
    set(width, w, "input");
    const pictures = second.querySelector("[tabindex]");
    const place = () => second.dataset.ready.split(" ").slice(3).map(Number);
    const press = (key) => pictures.dispatchEvent(new KeyboardEvent("keydown", { key }));
    const before = place();
    ["ArrowRight", "ArrowDown", "ArrowUp", "ArrowLeft", "ArrowLeft"].forEach(press);
    found.formulas.push({ ...numbers(second), before_keys: before, place: place() });
  }
  await fetch("/found", { method: "POST", body: JSON.stringify(found) });
})();
"""


def decode(text, rows, columns):
    """The map (rows, columns) that ``encode_map`` has written."""
    residual = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(rows, columns).tolist()
    padded = [[0] * (columns + 1) for _ in range(rows + 1)]
    for y in range(1, rows + 1):
        above, row = padded[y - 1], padded[y]
        for x in range(1, columns + 1):
            left, up, corner = row[x - 1], above[x], above[x - 1]
            expected = sorted((left, up, left + up - corner))[1]  # the median: another way to say the same
            row[x] = (residual[y - 1][x - 1] + expected) % 256
    return np.array(padded)[1:, 1:]


@pytest.fixture(scope="module")
def content():
    text = (STATIC / "scenes.js").read_text()
    assert text.startswith(PREFIX) and text.endswith(SUFFIX)
    return json.loads(text[len(PREFIX) : -len(SUFFIX)])


@pytest.fixture(scope="module")
def scenes(content):
    """``{key: {map: array}}`` of all scenes."""
    return {
        scene["key"]: {name: decode(scene[name], content["rows"], content["columns"]) for name in MAPS}
        for scene in content["scenes"]
    }


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def penalty(distance, strength, width):
    return strength * np.tanh(np.maximum(distance / 100 - 1, 0) / width)


def levels_after(maps, rule):
    """Levels of log-odds, lowered by the calibrated rule with its defaults if it is to refine them."""
    lowered = np.round(10 * penalty(maps["distance"], 2.5, 0.1)) if rule == "refined" else 0
    return np.maximum(maps["odds"] - lowered, 0).astype(int)


def histogram(levels, where, length=make_data.LEVELS):
    return np.bincount(levels[where], minlength=length)


class Harness(BaseHTTPRequestHandler):
    """Serves a page with both explorables, and takes what its driver has found."""

    def do_GET(self):
        name = self.path.strip("/")
        scripts = "".join(f'<script src="/{script}.js"></script>' for script in ("core", "threshold", "formula"))
        constants = {"CASES": CASES, "FORMULAS": FORMULAS, "TINTS": TINTS}
        page = (
            '<!doctype html><meta charset="utf-8"><div data-explorable="threshold"></div>'
            f'<div style="height: 9000px"></div><div data-explorable="formula"></div>{scripts}<script>'
            + "".join(f"const {constant} = {json.dumps(value)};" for constant, value in constants.items())
            + f"{DRIVER}</script>"
        )
        script = name in ("core.js", "threshold.js", "formula.js", "scenes.js")
        self.answer((STATIC / name).read_bytes() if script else page.encode(), script)

    def do_POST(self):
        self.server.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(b"")

    def answer(self, body, script=False):
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if script else "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What the explorables show in a browser, for all cases."""
    browser = next((b for b in BROWSERS if shutil.which(b)), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --window-size=900,3000"
    with ThreadingHTTPServer(("127.0.0.1", 0), Harness) as server:
        server.found = queue.Queue()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [browser, *flags.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]
        command.append(f"http://127.0.0.1:{server.server_port}/")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            found = server.found.get(timeout=60)
        finally:
            process.terminate()
            process.wait()
            server.shutdown()
    assert "error" not in found, found["error"]
    return found


def test_an_explorable_waits_until_it_is_scrolled_to(shown):
    assert not shown["early"]


def test_data_is_small_and_in_range(content, scenes):
    assert (STATIC / "scenes.js").stat().st_size <= 235_000
    assert content["names"] == list(CLASS_NAMES)
    assert [scene["key"] for scene in content["scenes"]] == [scene.key for scene in make_data.SCENES]
    for scene in content["scenes"]:
        maps, picture = scenes[scene["key"]], base64.b64decode(scene["image"].partition(",")[2])
        assert Image.open(io.BytesIO(picture)).size == (2 * content["columns"], 2 * content["rows"])
        assert maps["odds"].max() < content["levels"] and maps["classes"].max() < 19 and maps["kinds"].max() <= 3
        assert maps["odds"].min() > 10, "the calibrated rule may lower log-odds by 2.5 and must not meet the end"
        assert maps["distance"].min() / 100 > 0.3 and maps["distance"].max() < 255
        unknown = (maps["kinds"] == make_data.UNKNOWN).any()
        assert unknown == (scene["key"] not in ("fog", "night", "usual"))
        if "threshold" in scene["pages"]:
            assert unknown
            for kind in (maps["kinds"] == make_data.UNKNOWN, maps["kinds"] <= make_data.WRONG):
                for rule in ("network", "refined"):
                    bars = np.add.reduceat(histogram(levels_after(maps, rule), kind), range(0, make_data.LEVELS, 5))
                    assert bars.max() / bars.sum() < 0.4, "higher than the histograms are drawn"


def test_a_scene_made_anew_is_the_shipped_one(scenes):
    """But for what another processor rounds differently."""
    segmenter = make_data.load_segmenter(make_data.MODEL, device="cpu")
    statistics = make_data.Statistics.load(make_data.default_statistics(make_data.MODEL))
    found = make_data.maps(make_data.SCENES[0], segmenter, statistics)
    for name, shipped in scenes[make_data.SCENES[0].key].items():
        different = found[name] != shipped
        assert different.mean() < 0.01, name
        if name in ("odds", "distance"):
            assert np.abs(found[name].astype(int) - shipped).max() <= 1, name


def test_what_is_shown_cannot_become_markup(monkeypatch):
    shown = []
    monkeypatch.setattr(explorables, "display", lambda thing: shown.append(thing.data))
    monkeypatch.setenv("IOOD_BOOK", "1")
    given = {"title": "</script><img src=x>"}
    explorables.show_explorable("map", given, text="Is a < b & c?")
    assert "<p>Is a &lt; b &amp; c?</p>" in shown[0] and "<img" not in shown[0]
    inside = shown[0].partition('<script type="application/json">')[2].partition("</script>")[0]
    assert json.loads(inside) == given
    with pytest.raises(ValueError, match="JSON"):  # NaN is none, and a browser would refuse it
        explorables.show_explorable("map", {"a": float("nan")}, text="")


def test_a_script_that_is_missing_is_named(monkeypatch):
    shown = []
    monkeypatch.setattr(explorables, "display", lambda thing: shown.append(thing.data))
    monkeypatch.delenv("IOOD_BOOK", raising=False)
    explorables.show_explorable("nothing", {}, text="")
    assert "nothing.js is missing" in shown[0]


def test_numbers_are_rounded_and_kept_in_range():
    high, low = decode(explorables.encode_numbers(np.array([-3.0, 0.6, 255.5, 70_000.0])), 2, 4)
    assert (256 * high + low).tolist() == [0, 1, 256, 65535]


def test_encoding_is_undone_by_decoding():
    values = np.random.default_rng(0).integers(0, 256, (7, 11)).astype(np.uint8)
    assert (decode(encode_map(values), 7, 11) == values).all()


@pytest.mark.parametrize(
    "number, case", enumerate(CASES), ids=lambda v: "-".join(map(str, v)) if isinstance(v, tuple) else ""
)
def test_thresholds_show_the_metrics_of_the_package(shown, scenes, number, case):
    scene, rule, threshold = case
    maps, seen = scenes[scene], shown["thresholds"][number]
    levels, kinds = levels_after(maps, rule), maps["kinds"]
    unknown, known = kinds == make_data.UNKNOWN, kinds <= make_data.WRONG
    called = levels < threshold
    counts = {
        "tp": (called & unknown).sum(),
        "fp": (called & known).sum(),
        "fn": (~called & unknown).sum(),
        "tn": (~called & known).sum(),
    }
    assert {name: seen[name] for name in counts} == counts
    assert seen["tinted"] == {name: 4 * counts[name] for name in TINTS}  # each is drawn as 2 x 2
    rank = ood_ranking(histogram(levels, unknown), histogram(levels, known))
    confidence = sigmoid((levels + make_data.LOWEST) / 10)
    fine = np.minimum((confidence * CONFIDENCE_LEVELS).astype(int), CONFIDENCE_LEVELS - 1)
    right, wrong = (histogram(fine, kinds == kind, CONFIDENCE_LEVELS) for kind in (make_data.RIGHT, make_data.WRONG))
    expected = {
        "recall": counts["tp"] / unknown.sum(),
        "fpr": counts["fp"] / known.sum(),
        "precision": counts["tp"] / called[unknown | known].sum() if called.any() else None,  # a dash
        "auroc": rank["auroc_ood"],
        "auprc": rank["auprc_ood"],
        "fpr95": rank["fpr95_ood"],
        "share": unknown.sum() / (unknown | known).sum(),
        "ece": calibration_error(bin_sums(right, wrong)),
    }
    expected = {name: value if value is None else float(value) for name, value in expected.items()}
    assert {name: seen[name] for name in expected} == pytest.approx(expected, abs=6e-4)
    if threshold == 70:
        assert seen["recallAt95"] >= 0.95 and seen["fprAt95"] == seen["fpr95"]


@pytest.mark.parametrize("number, case", enumerate(FORMULAS), ids=lambda v: v[0] if isinstance(v, tuple) else "")
def test_formula_shows_the_arithmetic_of_the_rule(shown, scenes, number, case):
    scene, strength, width = case
    maps, seen = scenes[scene], shown["formulas"][number]
    assert seen["place"] == [seen["before_keys"][0] - 1, seen["before_keys"][1]]  # right, down, up, left, left
    x, y = seen["place"]
    odds = (maps["odds"] + make_data.LOWEST) / 10
    taken = penalty(maps["distance"], strength, width)
    before, after = sigmoid(odds), sigmoid(odds - taken)
    expected = {
        "before": before[y, x],
        "odds": odds[y, x],
        "d": maps["distance"][y, x] / 100,
        "penalty": taken[y, x],
        "after": after[y, x],
    }
    for kind, name in enumerate(("right", "wrong", "unknown")):
        if (maps["kinds"] == kind).any():
            expected |= {f"{name}-before": before[maps["kinds"] == kind].mean()}
            expected |= {f"{name}-after": after[maps["kinds"] == kind].mean()}
    numbers = {name: value for name, value in seen.items() if name not in ("place", "before_keys")}
    assert numbers == pytest.approx(expected, abs=6e-3)


def test_what_the_chapter_says_of_the_scenes_holds(scenes):
    def measured(scene, rule):
        maps = scenes[scene]
        levels, kinds = levels_after(maps, rule), maps["kinds"]
        return ood_ranking(histogram(levels, kinds == 2), histogram(levels, kinds < 2))["auprc_ood"]

    assert measured("deer", "refined") <= measured("deer", "network")
    assert all(measured(scene, "refined") > 1.5 * measured(scene, "network") for scene in ("sphere", "large", "sofa"))
    assert (scenes["large"]["kinds"] == 2).mean() > 5 * (scenes["dog"]["kinds"] == 2).mean()
    night = scenes["night"]
    assert (night["distance"] > 100).mean() == pytest.approx(0.75, abs=0.02)
    assert (night["distance"][night["classes"] != 0] > 100).mean() > 0.95
    right, wrong = night["kinds"] == 0, night["kinds"] == 1
    order = [
        auroc(*(histogram(levels_after(night, rule), kind) for kind in (right, wrong)))
        for rule in ("network", "refined")
    ]
    assert abs(order[0] - order[1]) < 0.02
    sphere, of_object = scenes["sphere"], scenes["sphere"]["kinds"] == 2
    mean = {
        (name, width): sigmoid(
            (maps["odds"][where] + make_data.LOWEST) / 10 - penalty(maps["distance"][where], 2.5, width)
        ).mean()
        for name, maps, where in (("sphere", sphere, of_object), ("night", night, right))
        for width in (0.1, 0.5, np.inf)
    }
    assert [mean["sphere", width] for width in (np.inf, 0.5, 0.1)] == pytest.approx([0.55, 0.37, 0.17], abs=5e-3)
    assert [mean["night", width] for width in (np.inf, 0.5, 0.1)] == pytest.approx([0.84, 0.67, 0.60], abs=5e-3)
    for maps in scenes.values():  # precision starts low: borders are less sure than objects
        if (maps["kinds"] == 2).any():
            least_sure = maps["odds"] <= np.quantile(maps["odds"], 0.01)
            assert (maps["kinds"][least_sure] == 2).mean() < 0.2


def test_unknown_objects_have_one_color_that_no_class_has():
    color = "rgb({}, {}, {})".format(*OOD_COLOR)
    assert f'UNKNOWN_COLOR = "{color}"' in (STATIC / "core.js").read_text()
    sheet = (BOOK / "_static" / "explorables.css").read_text()
    for name in ("svg .unknown", ".iood-swatch.tp", ".iood-diamond"):
        assert color in re.search(rf"{re.escape(name)} {{[^}}]*}}", sheet)[0]
    assert np.linalg.norm(PALETTE.astype(int) - OOD_COLOR, axis=1).min() > 100


def test_primer_has_the_colors_of_the_classes():
    text = (BOOK / "primer.md").read_text()
    rows = re.findall(r"\| (\d+) \| <span[^>]*rgb\((\d+),(\d+),(\d+)\)[^>]*></span> \| ([a-z ]+) \|", text)
    found = {int(number): ((int(r), int(g), int(b)), name) for number, r, g, b, name in rows}
    assert found == {i: (tuple(PALETTE[i].tolist()), name) for i, name in enumerate(CLASS_NAMES)}
    for picture in re.findall(r"figures/subsets/\w+\.\w+", text):
        assert (BOOK / picture).stat().st_size < 15_000
