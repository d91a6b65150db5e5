/* "Hover the map, see the pixel": a map of pixels, and of the one below the pointer its surroundings and its numbers. */
ioodExplorables.register("map", async (root, data) => {
  "use strict";
  const iood = ioodExplorables;
  const { make } = iood;
  const UNKNOWN = data.names.length - 1, SIDE = 999, MARGIN = 14, NEAR = 30; // pixels of the page
  const EDGE = "rgba(128, 139, 152, 0.8)";
  const CLUSTERS = ["#2a9d8f", "#e1a32a", "#d1495b", "#5b8def", "#9b6fd1", "#7f8fa6", "#67a84f", "#c96f3b", "#d6b4fc", "#3b4a6b"];
  const FAR = [0.5, 1.5]; // ends of the scale of distances
  const scale = (value) => { // the color of a value between 0 and 1
    const at = Math.min(Math.max(value, 0), 1) * (iood.SCALE.length - 1), low = Math.min(Math.floor(at), iood.SCALE.length - 2);
    return iood.SCALE[low].map((channel, c) => Math.round(channel + (at - low) * (iood.SCALE[low + 1][c] - channel)));
  };
  const css = ([r, g, b]) => `rgb(${r}, ${g}, ${b})`;

  const names = Object.keys(data.points);
  const columns = await Promise.all(names.map((name) => iood.decodeNumbers(data.points[name], data.count)));
  const [patches, scenes] = await Promise.all([iood.image(data.patches.image), iood.image(data.scenes.image)]);
  const all = Object.fromEntries(names.map((name, i) => [name, columns[i]]));
  const points = Array.from({ length: data.count }, (_, i) => Object.fromEntries(names.map((name) => [name, all[name][i]])));
  points.forEach((point) => { point.d = point.distance / 100; });

  // ---- what is on the page
  const ways = [["class", "true class"], ["known", "known or unknown"], ["distance", "distance d to the centres"], ["cluster", "cluster"]];
  const colorChoice = iood.choices(ways);
  const only = iood.choices([["all", "all classes"], ...data.names.flatMap((name, c) =>
    points.some((point) => point.true === c) ? [[c, name]] : [])]);
  const canvas = make("canvas", { role: "img" });
  const field = make("div", { tabindex: 0, role: "group", "aria-label": "Map of pixels; the arrow keys go from pixel to pixel" }, canvas);
  const key = make("p", { class: "iood-key" });
  const patch = make("canvas", { width: 144, height: 144, role: "img" });
  const scene = make("canvas", { width: 288, height: 144, role: "img" });
  const sentence = make("p", { class: "iood-sentence", "aria-live": "polite" });
  const numbers = make("dl", { class: "iood-numbers" });
  [["true", "True class"], ["predicted", "Predicted class"], ["confidence", "Confidence"], ["d", "Distance d"], ["cluster", "Cluster"],
  ].forEach(([name, text]) => numbers.append(make("div", {}, make("dt", {}, text), make("dd", { "data-value": name }))));
  const figure = (text, picture) => make("figure", {}, make("figcaption", {}, text), picture);

  root.replaceChildren(
    make("div", { class: "iood-controls" }, iood.labelled("Colour:", colorChoice).box, iood.labelled("Bring forward:", only).box),
    make("div", { class: "iood-beside" },
      make("div", {}, field, key),
      make("div", {}, make("div", { class: "iood-pair" }, figure("Patch", patch), figure("Scene", scene)), numbers, sentence)));

  // ---- the map
  let chosen = Math.max(points.findIndex((point) => point.true === UNKNOWN), 0);
  let wide = 0, high = 0, ratio = 1, drawn = null;

  const place = ({ x, y }) => [MARGIN + x / SIDE * (wide - 2 * MARGIN), high - MARGIN - y / SIDE * (high - 2 * MARGIN)];
  const wanted = (point) => only.value === "all" || point.true === Number(only.value);

  function color(point) {
    if (colorChoice.value === "distance") return css(scale((point.d - FAR[0]) / (FAR[1] - FAR[0])));
    if (colorChoice.value === "known") return point.true === UNKNOWN ? iood.UNKNOWN_COLOR : iood.KNOWN_COLOR;
    if (colorChoice.value === "cluster") return point.cluster ? CLUSTERS[(point.cluster - 1) % CLUSTERS.length] : EDGE;
    return point.true === UNKNOWN ? iood.UNKNOWN_COLOR : css(data.colors[point.true]);
  }

  /* Known pixels are round, unknown ones are diamonds: color is not all that tells them apart. */
  function outline(pen, point, size) {
    const [x, y] = place(point);
    pen.beginPath();
    if (point.true === UNKNOWN) {
      const far = 1.5 * size;
      pen.moveTo(x, y - far);
      pen.lineTo(x + far, y);
      pen.lineTo(x, y + far);
      pen.lineTo(x - far, y);
      pen.closePath();
    } else {
      pen.arc(x, y, size, 0, 2 * Math.PI);
    }
  }

  function drawAll() {
    ratio = window.devicePixelRatio || 1;
    wide = field.clientWidth;
    high = Math.round(wide * (wide < 500 ? 0.9 : 0.75));
    drawn = make("canvas", { width: Math.round(wide * ratio), height: Math.round(high * ratio) });
    [canvas.width, canvas.height] = [drawn.width, drawn.height];
    const pen = drawn.getContext("2d"), size = wide < 500 ? 2.2 : 3;
    pen.scale(ratio, ratio);
    pen.lineWidth = 0.6;
    pen.strokeStyle = EDGE;
    const order = [...points].sort((a, b) => wanted(a) - wanted(b) || a.true - b.true); // unknown ones last: on top
    order.forEach((point) => {
      pen.globalAlpha = wanted(point) ? 0.9 : 0.12;
      outline(pen, point, size);
      pen.fillStyle = color(point);
      pen.fill();
      pen.stroke();
    });
  }

  function drawChosen() {
    const pen = canvas.getContext("2d"), point = points[chosen];
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(drawn, 0, 0);
    pen.scale(ratio, ratio);
    if (colorChoice.value === "cluster" && point.cluster) { // the others of its cluster
      pen.lineWidth = 1.5;
      pen.strokeStyle = getComputedStyle(root).color;
      points.filter((other) => other.cluster === point.cluster && other.predicted === point.predicted)
        .forEach((other) => { outline(pen, other, 4.5); pen.stroke(); });
    }
    for (const [style, width] of [["#000", 5], ["#fff", 2.5]]) {
      pen.strokeStyle = style;
      pen.lineWidth = width;
      pen.beginPath();
      pen.arc(...place(point), 8, 0, 2 * Math.PI);
      pen.stroke();
    }
  }

  function drawKey() {
    const swatch = (style, text) => make("span", {}, make("span", { class: "iood-swatch", style: `background: ${style}` }), text);
    const unknown = points.some((point) => point.true === UNKNOWN) ? [make("span", {}, make("span", { class: "iood-diamond" }), "unknown object (diamonds)")] : [];
    const keys = {
      class: () => [...data.colors.flatMap((rgb, c) => points.some((point) => point.true === c) ? [swatch(css(rgb), data.names[c])] : []), ...unknown],
      known: () => [swatch(iood.KNOWN_COLOR, "known classes"), ...unknown],
      distance: () => [make("span", { class: "iood-scale" }, `d: ${FAR[0]} `, make("span"), ` ${FAR[1]}; diamonds: unknown objects`)],
      cluster: () => [`${data.clusters} clusters for each predicted class, a colour each; ringed: those of the chosen pixel's cluster`],
    };
    key.replaceChildren(...keys[colorChoice.value]());
  }

  // ---- the chosen pixel
  function drawPatch(point) {
    const pen = patch.getContext("2d"), { size } = data.patches, scale = patch.width / size;
    pen.imageSmoothingEnabled = false;
    pen.drawImage(patches, chosen % data.patches.columns * size, Math.floor(chosen / data.patches.columns) * size, size, size,
      0, 0, patch.width, patch.height);
    const at = Math.floor(size / 2) * scale;
    for (const [style, grow] of [["#000", 2], ["#fff", 0]]) {
      pen.strokeStyle = style;
      pen.lineWidth = 2;
      pen.strokeRect(at - grow - 1, at - grow - 1, scale + 2 * grow + 2, scale + 2 * grow + 2);
    }
    patch.setAttribute("aria-label", `The image around a pixel of ${data.names[point.true]}`);
  }

  function drawScene(point) {
    const [cellWide, cellHigh] = data.scenes.size, [rows, across] = data.shapes[point.scene];
    scene.height = Math.round(scene.width * rows / across);
    const pen = scene.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(scenes, point.scene % data.scenes.columns * cellWide, Math.floor(point.scene / data.scenes.columns) * cellHigh,
      cellWide, cellHigh, 0, 0, scene.width, scene.height);
    const x = point.column / 255 * scene.width, y = point.row / 255 * scene.height;
    for (const [style, width] of [["#000", 6], ["#fff", 3]]) {
      pen.strokeStyle = style;
      pen.lineWidth = width;
      pen.beginPath();
      pen.arc(x, y, 14, 0, 2 * Math.PI);
      pen.stroke();
    }
    const part = (share, low, middle, end) => share < 1 / 3 ? low : share < 2 / 3 ? middle : end;
    scene.setAttribute("aria-label", `Its scene; the pixel is at the ${part(point.row / 255, "top", "middle", "bottom")}, `
      + part(point.column / 255, "left", "center", "right"));
  }

  function show() {
    const point = points[chosen], predicted = data.names[point.predicted], trueName = data.names[point.true];
    drawChosen();
    drawPatch(point);
    drawScene(point);
    const confidence = point.confidence / 1000;
    const values = { true: trueName, predicted, confidence: confidence.toFixed(3), d: point.d.toFixed(2), cluster: point.cluster ? `${point.cluster} of ${predicted}` : "none" };
    numbers.querySelectorAll("[data-value]").forEach((element) => { element.textContent = values[element.dataset.value]; });
    const verdict = point.true === UNKNOWN ? "An unknown object, which the network calls" : point.true === point.predicted ? "Rightly called" : `Wrongly called (it is ${trueName})`;
    sentence.textContent = `${verdict} ${predicted}. ` + (point.d > 1
      ? `It lies farther from the centres of ${predicted} than 85\u00a0% of the calibration pixels do.`
      : `It lies no farther from the centres of ${predicted} than is usual.`);
    canvas.setAttribute("aria-label", `Map of ${data.count} pixels. Chosen: ${trueName}, called ${predicted}, confidence ${values.confidence}, distance ${values.d}.`);
    root.dataset.ready = `${colorChoice.value} ${chosen}`;
  }

  function nearest(x, y, allowed = () => true) {
    let best = -1, least = Infinity;
    points.forEach((point, i) => {
      const [px, py] = place(point), far = Math.hypot(px - x, py - y);
      if (far < least && wanted(point) && allowed(px - x, py - y)) [best, least] = [i, far];
    });
    return [best, least];
  }

  function change() {
    drawAll();
    drawKey();
    show();
  }

  function point(event, reach) {
    const box = canvas.getBoundingClientRect();
    const [i, far] = nearest((event.clientX - box.left) / box.width * wide, (event.clientY - box.top) / box.height * high);
    if (i < 0 || far > reach || i === chosen) return;
    chosen = i;
    show();
  }

  canvas.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") point(event, NEAR); });
  canvas.addEventListener("click", (event) => point(event, Infinity));
  field.addEventListener("keydown", (event) => {
    const along = { // the nearest one of those that lie more there than sideways
      ArrowLeft: (dx, dy) => -dx > Math.abs(dy), ArrowRight: (dx, dy) => dx > Math.abs(dy),
      ArrowUp: (dx, dy) => -dy > Math.abs(dx), ArrowDown: (dx, dy) => dy > Math.abs(dx),
    }[event.key];
    if (!along) return;
    event.preventDefault(); // or the page scrolls
    const [i] = nearest(...place(points[chosen]), along);
    if (i >= 0) chosen = i;
    show();
  });
  colorChoice.addEventListener("change", change);
  only.addEventListener("change", () => {
    if (!wanted(points[chosen])) chosen = points.findIndex(wanted);
    change();
  });
  new ResizeObserver(() => { if (field.clientWidth && field.clientWidth !== wide) change(); }).observe(field);
  change();
});
