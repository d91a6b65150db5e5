/* "Detectors side by side": any two of them on one scene, each with its histograms and its numbers. */
ioodExplorables.register("detectors", (root, data) => {
  "use strict";
  const iood = ioodExplorables;
  const { make } = iood;
  const ZOOM = 4; // a value is drawn as 4 x 4, so that outlines hide nothing
  const BIN = data.per_halving / 2; // levels in a bar of the histograms
  const levelOf = (share) => data.per_halving * Math.log2(1 / share);
  const shares = [[0.5, "50 %"], [0.1, "10 %"], [0.01, "1 %"], [0.001, "0.1 %"]];
  const NUMBERS = [["ap", "AP of unknown pixels"], ["unknown", "AUROC of unknown pixels"], ["wrong", "AUROC of wrong classes"]];

  const sceneChoice = iood.choices(data.scenes.map(({ title }, i) => [i, title]));
  const picture = make("canvas", { role: "img", "aria-label": "The scene; unknown objects are outlined in light blue" });
  const sentence = make("p", { class: "iood-sentence", "aria-live": "polite" });

  /* One of the two sides, with its own controls. */
  function side(name, start) {
    const detector = iood.choices(data.detectors.map((text, i) => [i, text]));
    detector.value = Math.max(data.detectors.indexOf(start), 0);
    const kind = iood.choices([[0, "plain"], [1, "averaged over neighbours"]]);
    const canvas = make("canvas", { role: "img" }), plots = make("div");
    const numbers = make("dl", { class: "iood-numbers" }, ...NUMBERS.map(([key, text]) =>
      make("div", {}, make("dt", {}, text), make("dd", { "data-number": `${name}-${key}` }))));
    const box = make("div", { role: "group", "aria-label": `${name} detector` },
      make("div", { class: "iood-controls" },
        iood.labelled(`Detector on the ${name}`, detector).box, iood.labelled("Its scores", kind).box),
      canvas, numbers, plots);
    return { name, detector, kind, canvas, plots, box, title: () =>
      data.detectors[detector.value] + (kind.value === "1" ? ", averaged" : "") };
  }
  const sides = [side("left", data.start[0]), side("right", data.start[1])];

  root.replaceChildren(
    make("div", { class: "iood-grid" },
      make("div", {}, make("div", { class: "iood-controls" }, iood.labelled("Scene:", sceneChoice).box), sentence),
      make("figure", {}, make("figcaption", {}, "scene (unknown: outlined)"), picture)),
    make("p", { class: "iood-scale" }, "usual ", make("span"), " unusual: of all pixels in these scenes, fewer score as high"),
    make("div", { class: "iood-grid" }, ...sides.map(({ box }) => box)));

  // ---- what a scene holds is decoded when it is asked for, and kept
  async function opened(scene, paths) {
    const { rows, columns } = scene;
    const maps = paths.map(([detector, kind]) => scene.maps[detector][kind]);
    scene.decoded = scene.decoded || {};
    for (const text of [scene.kinds, ...maps]) scene.decoded[text] = scene.decoded[text] || await iood.decode(text, rows, columns);
    scene.picture = scene.picture || await iood.image(scene.image);
    return { kinds: scene.decoded[scene.kinds], levels: maps.map((text) => scene.decoded[text]) };
  }

  /* How many pixels of some kinds have each level, the most unusual first: as if it were a confidence. */
  function count({ kinds }, levels, ...wanted) {
    const counts = new Array(data.levels).fill(0);
    levels.forEach((level, i) => { if (wanted.includes(kinds[i])) counts[data.levels - 1 - level] += 1; });
    return counts;
  }

  /* Metrics of one map; undefined where there is nothing to tell apart. */
  function measure(scene, found, levels) {
    const unknown = count(found, levels, iood.UNKNOWN), wrong = count(found, levels, iood.WRONG);
    const right = count(found, levels, 0), known = right.map((n, i) => n + wrong[i]);
    const some = (counts) => counts.some((n) => n);
    const rank = (positive, negative) => some(positive) && some(negative)
      ? iood.ranking(iood.confusion({ unknown: positive, known: negative })) : {};
    const objects = rank(unknown, known);
    return { unknown, known, ap: objects.auprc, chance: objects.share,
      numbers: { ap: objects.auprc, unknown: objects.auroc, wrong: scene.labelled ? rank(wrong, right).auroc : undefined } };
  }

  function outline(canvas, { rows, columns }, kinds) {
    const pen = canvas.getContext("2d");
    const [wide, high] = [canvas.width / columns, canvas.height / rows];
    pen.strokeStyle = iood.UNKNOWN_COLOR;
    pen.lineWidth = 1.5;
    pen.beginPath();
    const unknown = (x, y) => x < columns && y < rows && kinds[y * columns + x] === iood.UNKNOWN;
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        if (unknown(x, y) !== unknown(x + 1, y)) { pen.moveTo((x + 1) * wide, y * high); pen.lineTo((x + 1) * wide, (y + 1) * high); }
        if (unknown(x, y) !== unknown(x, y + 1)) { pen.moveTo(x * wide, (y + 1) * high); pen.lineTo((x + 1) * wide, (y + 1) * high); }
      }
    }
    pen.stroke();
  }

  /* Bars of BIN levels as shares of all pixels of the kind, the most usual first. */
  function bars(counts) {
    const all = counts.reduce((a, b) => a + b, 0) || 1, usual = [...counts].reverse(), heights = [];
    for (let start = 0; start < data.levels; start += BIN) heights.push(usual.slice(start, start + BIN).reduce((a, b) => a + b, 0) / all);
    return heights;
  }

  function drawHistograms({ plots, title }, measured, highest) {
    plots.replaceChildren(...["unknown", "known"].map((kind) => {
      const pixels = measured[kind].reduce((a, b) => a + b, 0);
      const { svg, layer, px, py } = iood.plot({
        width: 300, height: 120, x: [0, 1.04 * data.levels], y: [0, highest], xTicks: shares.map(([p, text]) => [levelOf(p), text]),
        yTicks: [[0, "0"], [highest, highest.toFixed(1)]], xLabel: "share of all pixels that score as high", yLabel: "share",
        alt: `Histogram of the scores of ${pixels} ${kind} pixels by ${title()}`,
      });
      bars(measured[kind]).forEach((height, i) => layer.append(make("rect", { class: kind, x: px(i * BIN) + 0.5,
        width: px(BIN) - px(0) - 1, y: py(height), height: py(0) - py(height) })));
      layer.append(make("text", { x: px(data.levels / 2), y: py(highest) + 12, "text-anchor": "middle" }, `${pixels} ${kind} pixels`));
      return svg;
    }));
  }

  const text = (value) => value === undefined ? "not measured" : value.toFixed(3);
  const than = (a, b, better, worse, equal) => a.toFixed(2) === b.toFixed(2) ? equal : a > b ? better : worse;

  /* Left against right, in words. */
  function compare(scene, [left, right], [a, b]) {
    const parts = [];
    if (a.ap !== undefined) {
      parts.push(`${left.title()} (left) finds the unknown pixels of this scene ${than(a.ap, b.ap, "better than", "worse than", "as well as")} `
        + `${right.title()} (right): AP ${a.ap.toFixed(2)} and ${b.ap.toFixed(2)}, where chance is ${a.chance.toFixed(2)}.`);
    } else parts.push("There is no unknown pixel in this scene.");
    const [wrong, other] = [a.numbers.wrong, b.numbers.wrong];
    if (wrong !== undefined) {
      parts.push(`It tells wrong classes from right ones ${than(wrong, other, "better", "worse", "as well")}: AUROC ${wrong.toFixed(2)} and ${other.toFixed(2)}, where chance is 0.5.`);
    } else parts.push("Which classes are wrong is not known here.");
    return parts.join(" ");
  }

  async function show() {
    const chosen = () => [sceneChoice.value, ...sides.flatMap(({ detector, kind }) => [detector.value, kind.value])].join(" ");
    const asked = chosen(), scene = data.scenes[sceneChoice.value];
    const found = await opened(scene, sides.map(({ detector, kind }) => [detector.value, kind.value]));
    if (asked !== chosen()) return; // something else was chosen meanwhile
    [picture.width, picture.height] = [scene.picture.width, scene.picture.height];
    picture.getContext("2d").drawImage(scene.picture, 0, 0);
    outline(picture, scene, found.kinds);
    const measured = found.levels.map((levels) => measure(scene, found, levels));
    const highest = Math.ceil(10 * Math.max(...measured.flatMap((one) => [...bars(one.unknown), ...bars(one.known)]))) / 10;
    sides.forEach((one, i) => {
      [one.canvas.width, one.canvas.height] = [ZOOM * scene.columns, ZOOM * scene.rows];
      iood.paint(one.canvas, scene.columns, scene.rows, (j) => found.levels[i][j] / (data.levels - 1));
      outline(one.canvas, scene, found.kinds);
      one.canvas.setAttribute("aria-label", `Score map of ${one.title()}, bright where it is unusual; unknown objects are outlined in light blue`);
      drawHistograms(one, measured[i], highest);
      NUMBERS.forEach(([key]) => { one.box.querySelector(`[data-number="${one.name}-${key}"]`).textContent = text(measured[i].numbers[key]); });
    });
    sentence.textContent = compare(scene, sides, measured);
    root.dataset.ready = asked;
  }

  [sceneChoice, ...sides.flatMap(({ detector, kind }) => [detector, kind])].forEach((control) => control.addEventListener("change", show));
  return show();
});
