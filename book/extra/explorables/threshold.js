/* "Drag the threshold": one slider moves the mask on the scene, the confusion counts, and the points on the curves. */
ioodExplorables.register("threshold", (root, data) => {
  "use strict";
  const iood = ioodExplorables;
  const { make } = iood;
  const RULE = { strength: 2.5, width: 0.1 }; // the defaults of the calibrated rule
  const COLORS = { tp: [0, 200, 255], fp: [255, 150, 0], fn: [255, 40, 200] };
  const BIN = 5; // levels in a bar of the histograms: half a unit of log-odds
  const scenes = data.scenes.filter((scene) => scene.pages.includes("threshold"));
  const confidenceAt = (level) => iood.sigmoid((level + data.lowest - 0.5) / 10); // between two levels

  // ---- controls
  const sceneChoice = iood.choices(scenes.map((scene) => [scene.key, scene.title]));
  const ruleChoice = iood.choices([["network", "of the network"], ["refined", "refined by the calibrated rule"]]);
  const slider = make("input", { type: "range", min: 0, max: data.levels, step: 1 });
  const threshold = iood.labelled("Threshold: unknown if the confidence is below", slider);
  const jump = make("button", { type: "button" }, "Find 95 % of the unknown pixels");

  // ---- the scene and the counts
  const canvas = make("canvas", { width: 2 * data.columns, height: 2 * data.rows, role: "img" });
  const cell = (name, color) => make("td", {}, make("span", { class: `iood-swatch ${color}` }), make("span", { "data-number": name }));
  const table = make("table", { class: "iood-confusion" },
    make("caption", {}, "Pixels"),
    make("thead", {}, make("tr", {}, make("td"), make("th", { scope: "col" }, "unknown object"), make("th", { scope: "col" }, "known thing"))),
    make("tbody", {},
      make("tr", {}, make("th", { scope: "row" }, "called unknown"), cell("tp", "tp"), cell("fp", "fp")),
      make("tr", {}, make("th", { scope: "row" }, "not called so"), cell("fn", "fn"), cell("tn", "tn"))));
  const sentence = make("p", { class: "iood-sentence", "aria-live": "polite" });
  const numbers = make("dl", { class: "iood-numbers" });
  [["recall", "Recall (true-positive rate)"], ["fpr", "False-positive rate"], ["precision", "Precision"],
    ["auroc", "AUROC"], ["auprc", "AUPRC"], ["fpr95", "FPR95"], ["share", "Share of unknown pixels"], ["ece", "ECE"],
  ].forEach(([name, text]) => numbers.append(make("div", {}, make("dt", {}, text), make("dd", { "data-number": name }))));

  // ---- the plots
  const ticks = [[0.1, ".1"], [0.5, ".5"], [0.9, ".9"], [0.99, ".99"], [0.999, ".999"], [0.9999, ".9999"]]
    .map(([p, text]) => [10 * Math.log(p / (1 - p)) - data.lowest, text]);
  const highest = 0.4; // no bar of the shipped scenes is higher
  const histogram = (kind) => iood.plot({
    width: 300, height: 130, x: [0, data.levels], y: [0, highest], xTicks: ticks, yTicks: [[0, "0"], [0.2, ".2"], [0.4, ".4"]],
    xLabel: "confidence (drawn in log-odds)", yLabel: "share of pixels", alt: `Histogram of the confidence of ${kind} pixels`,
  });
  const histograms = { unknown: histogram("unknown"), known: histogram("known") };
  const square = (xLabel, yLabel, alt) => iood.plot({ x: [0, 1], y: [0, 1], xTicks: iood.UNIT, yTicks: iood.UNIT, xLabel, yLabel, alt });
  const roc = square("false-positive rate", "recall", "ROC curve, with the point of this threshold");
  const pr = square("recall", "precision", "Precision-recall curve, with the point of this threshold");
  const reliability = square("confidence", "share of right pixels", "Share of right pixels against confidence");
  const figure = (text, ...plots) => make("figure", {}, make("figcaption", {}, text), ...plots.map(({ svg }) => svg));

  root.replaceChildren(
    make("div", { class: "iood-controls" },
      iood.labelled("Scene with", sceneChoice).box, iood.labelled("Confidence", ruleChoice).box),
    make("div", { class: "iood-controls" }, threshold.box, jump),
    make("div", { class: "iood-grid" }, make("div", {}, canvas, sentence), make("div", {}, table, numbers)),
    make("div", { class: "iood-grid" },
      figure("Confidence of unknown pixels (above) and of known ones (below)", histograms.unknown, histograms.known),
      figure("ROC curve", roc), figure("Precision-recall curve", pr), figure("Right as often as sure? (known pixels)", reliability)));

  // ---- what changes with the scene or the rule, and what with the threshold
  let maps, counts, rows, levels, measured;

  function drawCurves() {
    const rule = ruleChoice.value === "refined" ? RULE : null;
    counts = iood.count(maps, data.levels, rule);
    levels = maps.odds.map((level, i) => rule
      ? Math.max(level - Math.round(10 * iood.penalty(maps.distance[i] / 100, rule.strength, rule.width)), 0) : level);
    rows = iood.confusion(counts);
    const { bins, ece } = iood.calibration(counts, data.lowest);
    measured = { ...iood.ranking(rows), ece };
    for (const [kind, { layer, px, py }] of Object.entries(histograms)) {
      const total = counts[kind].reduce((a, b) => a + b, 0);
      layer.replaceChildren();
      for (let start = 0; start < data.levels; start += BIN) {
        const share = counts[kind].slice(start, start + BIN).reduce((a, b) => a + b, 0) / total;
        const top = py(Math.min(share, highest));
        if (share) layer.append(make("rect", { class: kind, x: px(start) + 0.5, y: top, width: px(BIN) - px(0) - 1, height: py(0) - top }));
      }
      layer.append(make("line", { class: "threshold", y1: py(0), y2: py(highest) }),
        make("text", { x: px(data.levels) - 4, y: py(highest) + 12, "text-anchor": "end" }, `${total} ${kind} pixels`));
    }
    const drawn = (chart, points, ...others) => chart.layer.replaceChildren(
      ...others, make("path", { class: "curve", d: chart.line(points) }), make("circle", { class: "point", r: 6 }));
    const some = rows.filter((row) => row.tp + row.fp);
    drawn(roc, rows.map((row) => [row.fpr, row.recall]), make("path", { class: "chance", d: roc.line([[0, 0], [1, 1]]) }));
    drawn(pr, some.map((row) => [row.recall, row.precision]),
      make("path", { class: "chance", d: pr.line([[0, measured.share], [1, measured.share]]) }));
    const filled = bins.filter((bin) => bin.pixels);
    reliability.layer.replaceChildren(
      make("path", { class: "chance", d: reliability.line([[0, 0], [1, 1]]) }),
      ...filled.map((bin) => make("circle", { class: "bin", r: 2 + 9 * Math.sqrt(bin.pixels / (counts.known.reduce((a, b) => a + b, 0))),
        cx: reliability.px(bin.confidence / bin.pixels), cy: reliability.py(bin.right / bin.pixels) })));
  }

  function drawMask(t) {
    const pen = canvas.getContext("2d");
    pen.drawImage(maps.picture, 0, 0, canvas.width, canvas.height);
    Object.entries(COLORS).forEach(([name, color]) => {
      pen.fillStyle = `rgba(${color.join()}, 0.7)`;
      levels.forEach((level, i) => {
        if (maps.kinds[i] > iood.UNKNOWN) return;
        const unknown = maps.kinds[i] === iood.UNKNOWN, called = level < t;
        const kind = unknown ? (called ? "tp" : "fn") : called ? "fp" : "tn";
        if (kind === name) pen.fillRect(2 * (i % data.columns), 2 * Math.floor(i / data.columns), 2, 2);
      });
    });
  }

  function show() {
    const t = Number(slider.value), row = rows[t], text = iood.confidenceText(confidenceAt(t));
    threshold.value.textContent = text;
    slider.setAttribute("aria-valuetext", `confidence below ${text}`);
    drawMask(t);
    const shown = { ...measured, ...row };
    root.querySelectorAll("[data-number]").forEach((element) => {
      const value = shown[element.dataset.number];
      const whole = ["tp", "fp", "fn", "tn"].includes(element.dataset.number);
      const undefinedYet = element.dataset.number === "precision" && !(row.tp + row.fp); // a share of nothing
      element.textContent = undefinedYet ? "–" : whole ? value : value.toFixed(3);
    });
    const { tp, fp, fn } = row;
    sentence.textContent = `${tp} of ${tp + fn} unknown pixels are found (recall ${iood.percent(row.recall)}), `
      + `and ${fp} known ones with them. ` + (tp + fp ? `Of all that is called unknown, ${iood.percent(row.precision)} is (precision).` : "Nothing is called unknown.");
    canvas.setAttribute("aria-label", `The scene with found pixels in blue, missed ones in pink, false alarms in orange. ${sentence.textContent}`);
    for (const { layer, px } of Object.values(histograms)) {
      const line = layer.querySelector(".threshold");
      line.setAttribute("x1", px(t));
      line.setAttribute("x2", px(t));
    }
    for (const [chart, x, y] of [[roc, row.fpr, row.recall], [pr, row.recall, row.precision]]) {
      const point = chart.layer.querySelector(".point");
      point.setAttribute("cx", chart.px(x));
      point.setAttribute("cy", chart.py(y));
      point.setAttribute("visibility", chart === pr && !(row.tp + row.fp) ? "hidden" : "visible");
    }
    root.dataset.ready = `${sceneChoice.value} ${ruleChoice.value} ${t}`;
  }

  async function change() {
    const scene = scenes.find(({ key }) => key === sceneChoice.value), opened = await iood.open(scene, data);
    if (scene.key !== sceneChoice.value) return; // another one was chosen meanwhile
    maps = opened;
    drawCurves();
    show();
  }

  slider.value = 70; // a confidence of 0.88
  slider.addEventListener("input", show);
  sceneChoice.addEventListener("change", change);
  ruleChoice.addEventListener("change", change);
  jump.addEventListener("click", () => { slider.value = measured.at95; show(); });
  return change();
});
