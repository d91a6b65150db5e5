/* "Before and after, with the formula": sliders for the calibrated rule, the arithmetic of one pixel, and a line to drag between the two. */
ioodExplorables.register("formula", (root, data) => {
  "use strict";
  const iood = ioodExplorables;
  const { make } = iood;
  const scenes = data.scenes.filter((scene) => scene.pages.includes("formula"));
  const START = { sphere: [75, 51], fog: [90, 49], night: [98, 60], usual: [29, 66] }; // pixels worth looking at
  const KINDS = ["rightly", "wrongly: it is something else that is known", "but it belongs to an unknown object", "but it has no label"];

  const sceneChoice = iood.choices(scenes.map((scene) => [scene.key, scene.title]));
  const strength = make("input", { type: "range", min: 0, max: 5, step: 0.05, value: 2.5 });
  const width = make("input", { type: "range", min: 0.02, max: 0.5, step: 0.01, value: 0.1 });
  const boxes = { strength: iood.labelled("Strength λ, the largest penalty:", strength), width: iood.labelled("Width w:", width) };

  const view = (text) => {
    const canvas = make("canvas", { width: 2 * data.columns, height: 2 * data.rows, role: "img", "aria-label": text });
    return { canvas, box: make("figure", {}, make("figcaption", {}, text), canvas) };
  };
  const views = [view("scene (unknown: outlined)"), view("confidence before"), view("confidence after")];
  const pictures = make("div", { class: "iood-pictures", tabindex: 0, role: "group",
    "aria-label": "Pictures; the arrow keys choose a pixel" }, ...views.map(({ box }) => box),
  make("p", { class: "iood-scale" }, "unsure ", make("span"), " sure"));
  const swipe = view("before on the left of the line, after on the right");
  swipe.canvas.classList.add("iood-swipe");
  const divider = make("input", { type: "range", min: 0, max: 100, step: 1, value: 40 });
  const line = iood.labelled("Line, also to be dragged in the picture:", divider);
  const steps = make("ol", { class: "iood-steps", "aria-live": "polite" });
  const summary = make("table", { class: "iood-confusion" });
  const chart = iood.plot({
    x: [0.5, 2], y: [0, 5], xTicks: [[0.5, ".5"], [1, "1"], [1.5, "1.5"], [2, "2"]], yTicks: [0, 1, 2, 3, 4, 5].map((v) => [v, String(v)]),
    xLabel: "distance d", yLabel: "penalty", alt: "Penalty against distance, with the point of the chosen pixel",
  });

  root.replaceChildren(
    make("div", { class: "iood-controls" }, iood.labelled("Scene:", sceneChoice).box, boxes.strength.box, boxes.width.box),
    pictures,
    make("p", {}, "Click a pixel, or choose one with the arrow keys (with Shift: ten at once)."),
    make("div", { class: "iood-grid" }, make("div", {}, swipe.box, line.box),
      make("figure", {}, make("figcaption", {}, "What a distance costs"), chart.svg)),
    make("div", { class: "iood-grid" }, steps, make("div", {}, summary)));

  let maps, pixel = START.sphere;
  const rule = () => ({ strength: Number(strength.value), width: Number(width.value) });
  const oddsAt = (i) => (maps.odds[i] + data.lowest) / 10;
  const after = (i, { strength: s, width: w }) => iood.sigmoid(oddsAt(i) - iood.penalty(maps.distance[i] / 100, s, w));

  function drawScene(canvas) {
    const pen = canvas.getContext("2d");
    pen.drawImage(maps.picture, 0, 0, canvas.width, canvas.height);
    pen.fillStyle = iood.UNKNOWN_COLOR;
    maps.kinds.forEach((kind, i) => {
      const around = [i - 1, i + 1, i - data.columns, i + data.columns];
      const border = kind === iood.UNKNOWN && around.some((j) => maps.kinds[j] !== iood.UNKNOWN);
      if (border) pen.fillRect(2 * (i % data.columns), 2 * Math.floor(i / data.columns), 2, 2);
    });
  }

  function drawCross({ canvas }) {
    const pen = canvas.getContext("2d"), x = 2 * pixel[0] + 1, y = 2 * pixel[1] + 1;
    for (const [color, wide] of [["#000", 5], ["#fff", 2]]) {
      pen.strokeStyle = color;
      pen.lineWidth = wide;
      pen.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        pen.moveTo(x + 4 * dx, y + 4 * dy);
        pen.lineTo(x + 12 * dx, y + 12 * dy);
      }
      pen.stroke();
    }
  }

  /* Both confidences in one picture, with the line between them. */
  function drawSwipe() {
    const { width: wide, height } = swipe.canvas, pen = swipe.canvas.getContext("2d");
    const cut = Math.round(Number(divider.value) / 100 * wide);
    pen.drawImage(views[1].canvas, 0, 0);
    if (cut < wide) pen.drawImage(views[2].canvas, cut, 0, wide - cut, height, cut, 0, wide - cut, height);
    for (const [color, thick] of [["#000", 4], ["#fff", 2]]) {
      pen.fillStyle = color;
      pen.fillRect(cut - thick / 2, 0, thick, height);
      pen.beginPath();
      pen.arc(cut, height / 2, 5 + thick, 0, 2 * Math.PI);
      pen.fill();
    }
    line.value.textContent = `at ${divider.value} %`;
    divider.setAttribute("aria-valuetext", `before on the left ${divider.value} percent, after on the rest`);
  }

  /* The formula with the numbers of the chosen pixel, a line for each step. */
  function writeSteps(i, { strength: s, width: w }) {
    const number = (name, value, digits = 2) => make("b", { "data-number": name }, iood.signed(value, digits));
    const odds = oddsAt(i), d = maps.distance[i] / 100, excess = Math.max(d - 1, 0);
    const taken = iood.penalty(d, s, w), before = iood.sigmoid(odds), end = iood.sigmoid(odds - taken);
    steps.replaceChildren(
      make("li", {}, `Pixel in column ${pixel[0]}, row ${pixel[1]}: the network calls it `, make("b", {}, data.names[maps.classes[i]]), `, ${KINDS[maps.kinds[i]]}.`),
      make("li", {}, "Its confidence C = ", number("before", before, 3), ", so its log-odds are log(C / (1 − C)) = ", number("odds", odds, 1), "."),
      make("li", {}, "Its distance d = ", number("d", d), ": ", d > 1
        ? `farther than usual, by max(d − 1, 0) = ${excess.toFixed(2)}.` : "within what is usual, so max(d − 1, 0) = 0."),
      make("li", {}, `The penalty is λ · tanh(${excess.toFixed(2)} / w) = ${s.toFixed(2)} · tanh(${(excess / w).toFixed(2)}) = ${s.toFixed(2)} · ${Math.tanh(excess / w).toFixed(3)} = `, number("penalty", taken), "."),
      make("li", {}, `The new log-odds are ${iood.signed(odds, 1)} − ${taken.toFixed(2)} = ${iood.signed(odds - taken, 2)}, and the new confidence 1 / (1 + exp(−(${iood.signed(odds - taken, 2)}))) = `, number("after", end, 3), "."));
    chart.layer.replaceChildren(
      make("path", { class: "curve", d: chart.line(Array.from({ length: 151 }, (_, k) => [0.5 + k / 100, iood.penalty(0.5 + k / 100, s, w)])) }),
      make("circle", { class: "point", r: 6, cx: chart.px(Math.min(Math.max(d, 0.5), 2)), cy: chart.py(taken) }));
  }

  /* Mean confidence of the pixels of each kind, before and after. */
  function writeSummary(chosen) {
    const groups = [["right", "right class", 0], ["wrong", "wrong class", 1], ["unknown", "unknown object", 2]];
    const rows = groups.flatMap(([name, text, kind]) => {
      const pixels = [...maps.kinds.keys()].filter((i) => maps.kinds[i] === kind);
      const mean = (value) => pixels.reduce((sum, i) => sum + value(i), 0) / pixels.length;
      const cell = (when, value) => make("td", { "data-number": `${name}-${when}` }, mean(value).toFixed(3));
      return pixels.length ? [make("tr", {}, make("th", { scope: "row" }, text),
        cell("before", (i) => iood.sigmoid(oddsAt(i))), cell("after", (i) => after(i, chosen)))] : [];
    });
    summary.replaceChildren(make("caption", {}, "Mean confidence in this scene"),
      make("thead", {}, make("tr", {}, make("td"), make("th", { scope: "col" }, "before"), make("th", { scope: "col" }, "after"))),
      make("tbody", {}, ...rows));
  }

  function show() {
    const chosen = rule(), i = pixel[1] * data.columns + pixel[0];
    boxes.strength.value.textContent = chosen.strength.toFixed(2);
    boxes.width.value.textContent = chosen.width.toFixed(2);
    drawScene(views[0].canvas);
    iood.paint(views[1].canvas, data.columns, data.rows, (j) => iood.sigmoid(oddsAt(j)));
    iood.paint(views[2].canvas, data.columns, data.rows, (j) => after(j, chosen));
    views.forEach(drawCross);
    drawSwipe();
    writeSteps(i, chosen);
    writeSummary(chosen);
    root.dataset.ready = `${sceneChoice.value} ${chosen.strength} ${chosen.width} ${pixel.join(" ")}`;
  }

  async function change() {
    const scene = scenes.find(({ key }) => key === sceneChoice.value), opened = await iood.open(scene, data);
    if (scene.key !== sceneChoice.value) return; // another one was chosen meanwhile
    maps = opened;
    pixel = START[sceneChoice.value];
    show();
  }

  function choose(x, y) {
    const within = (value, size) => Math.min(Math.max(value, 0), size - 1);
    pixel = [within(x, data.columns), within(y, data.rows)];
    show();
  }

  views.forEach(({ canvas }) => canvas.addEventListener("click", (event) => {
    const place = canvas.getBoundingClientRect();
    choose(Math.floor((event.clientX - place.left) / place.width * data.columns),
      Math.floor((event.clientY - place.top) / place.height * data.rows));
  }));
  pictures.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault(); // or the page scrolls
    const far = event.shiftKey ? 10 : 1;
    choose(pixel[0] + far * move[0], pixel[1] + far * move[1]);
  });
  function drag(event) {
    if (event.type === "pointerdown") swipe.canvas.setPointerCapture(event.pointerId); // also beyond the picture's edge
    else if (!event.buttons) return;
    const place = swipe.canvas.getBoundingClientRect();
    divider.value = 100 * (event.clientX - place.left) / place.width;
    drawSwipe();
  }
  ["pointerdown", "pointermove"].forEach((kind) => swipe.canvas.addEventListener(kind, drag));
  divider.addEventListener("input", drawSwipe);
  [strength, width].forEach((slider) => slider.addEventListener("input", show));
  sceneChoice.addEventListener("change", change);
  return change();
});
