/* "Click a pixel, meet its centres": the nearest centres of a pixel, and its distance among those of its class. */
ioodExplorables.register("centers", async (root, data) => {
  "use strict";
  const iood = ioodExplorables;
  const { make } = iood;
  const NEAREST = 3, NONE = 65535, BIN = 5, LAST = 255; // hundredths in a bar of the histogram, and the largest distance
  const PLANES = 2 + 3 * NEAREST;
  const { steps } = data.calibration;

  const [patches, calibration] = await Promise.all([iood.image(data.patches.image),
    iood.decode(data.calibration.distances, data.calibration.classes.length, steps)]);
  const usual = (c) => { // sorted distances of the calibration pixels of class c
    const row = data.calibration.classes.indexOf(c);
    return calibration.subarray(row * steps, (row + 1) * steps);
  };

  // ---- what is on the page
  const sceneChoice = iood.choices(data.scenes.map((scene, i) => [i, scene.title]));
  const canvas = make("canvas", { role: "img" });
  const field = make("div", { tabindex: 0, role: "group", "aria-label": "Scene; the arrow keys choose a pixel, with Shift ten cells at once" }, canvas);
  const own = make("canvas", { width: 144, height: 144, role: "img", "aria-label": "The image around the pixel" });
  const found = Array.from({ length: NEAREST }, () => ({ picture: make("canvas", { width: 144, height: 144, role: "img" }), text: make("figcaption") }));
  const figures = [make("figure", {}, own, make("figcaption", {}, "Around the pixel")),
    ...found.map(({ picture, text }) => make("figure", {}, picture, text))];
  const sentence = make("p", { class: "iood-sentence", "aria-live": "polite" });
  const histogram = make("figure");

  root.replaceChildren(
    make("div", { class: "iood-controls" }, iood.labelled("Scene:", sceneChoice).box),
    make("div", { class: "iood-beside" }, make("div", {}, field, sentence), histogram),
    make("div", { class: "iood-patches" }, ...figures));

  let scene, pixel;

  async function open(number) {
    const one = data.scenes[number];
    if (!one.planes) {
      const [maps, picture] = await Promise.all([iood.decode(one.maps, PLANES * one.rows, one.columns), iood.image(one.image)]);
      const cells = one.rows * one.columns;
      one.picture = picture;
      one.planes = Array.from({ length: PLANES }, (_, i) => maps.subarray(i * cells, (i + 1) * cells));
    }
    return one;
  }

  /* What is known of a cell. */
  function cell(x, y) {
    const i = y * scene.columns + x, at = (plane) => scene.planes[plane][i];
    const nearest = Array.from({ length: NEAREST }, (_, k) => (
      { center: 256 * at(2 + k) + at(2 + NEAREST + k), d: at(2 + 2 * NEAREST + k) / 100 })).filter(({ center }) => center !== NONE);
    return { class: at(0), unknown: at(1) === 1, nearest };
  }

  function drawScene() {
    const pen = canvas.getContext("2d"), wide = canvas.width / scene.columns, high = canvas.height / scene.rows;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(scene.picture, 0, 0, canvas.width, canvas.height);
    pen.fillStyle = iood.UNKNOWN_COLOR;
    scene.planes[1].forEach((inside, i) => { // outlines of unknown objects
      if (!inside) return;
      const x = i % scene.columns, y = Math.floor(i / scene.columns);
      const open = (dx, dy) => x + dx < 0 || x + dx >= scene.columns || y + dy < 0 || y + dy >= scene.rows || !scene.planes[1][i + dx + dy * scene.columns];
      if (open(-1, 0)) pen.fillRect(x * wide, y * high, 2, high);
      if (open(1, 0)) pen.fillRect((x + 1) * wide - 2, y * high, 2, high);
      if (open(0, -1)) pen.fillRect(x * wide, y * high, wide, 2);
      if (open(0, 1)) pen.fillRect(x * wide, (y + 1) * high - 2, wide, 2);
    });
    const x = (pixel[0] + 0.5) * wide, y = (pixel[1] + 0.5) * high;
    for (const [color, width] of [["#000", 6], ["#fff", 2.5]]) {
      pen.strokeStyle = color;
      pen.lineWidth = width;
      pen.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        pen.moveTo(x + 7 * dx, y + 7 * dy);
        pen.lineTo(x + 20 * dx, y + 20 * dy);
      }
      pen.stroke();
    }
  }

  /* As much of the picture as the patches show of theirs. */
  function drawOwn() {
    const pen = own.getContext("2d"), side = data.patches.size; // no picture is wider than sixteen patches
    const x = (pixel[0] + 0.5) / scene.columns * scene.picture.width, y = (pixel[1] + 0.5) / scene.rows * scene.picture.height;
    pen.imageSmoothingEnabled = false;
    pen.clearRect(0, 0, own.width, own.height);
    pen.drawImage(scene.picture, x - side / 2, y - side / 2, side, side, 0, 0, own.width, own.height);
  }

  function drawCenters(nearest) {
    const { size, columns } = data.patches;
    found.forEach(({ picture, text }, k) => {
      figures[k + 1].hidden = k >= nearest.length;
      if (k >= nearest.length) return;
      const { center, d } = nearest[k], name = data.names[data.centers.class[center]];
      const pen = picture.getContext("2d");
      pen.imageSmoothingEnabled = false;
      pen.drawImage(patches, center % columns * size, Math.floor(center / columns) * size, size, size, 0, 0, picture.width, picture.height);
      text.replaceChildren(`${["Nearest", "Second", "Third"][k]} centre, of ${name}: `, make("b", { "data-number": `d${k}` }, distance(d)),
        ` (${data.centers.pixels[center]} training pixels)`);
      picture.setAttribute("aria-label", `The training pixel closest to a centre of ${name}`);
    });
  }

  const distance = (d) => 100 * d >= LAST ? `${d.toFixed(2)} or more` : d.toFixed(2);

  function drawHistogram(c, d) {
    const values = usual(c), bars = new Array(Math.ceil((LAST + 1) / BIN)).fill(0);
    values.forEach((value) => { bars[Math.floor(value / BIN)] += 1 / steps; });
    const top = Math.max(...bars), name = data.names[c];
    const chart = iood.plot({
      width: 300, height: 210, x: [0, 2.6], y: [0, 1.1 * top], xTicks: [[0, "0"], [0.5, ".5"], [1, "1"], [1.5, "1.5"], [2, "2"], [2.5, "2.5"]],
      yTicks: [[0, "0"], [top, iood.percent(top)]], xLabel: "distance d to the nearest centre", yLabel: "",
      alt: `Histogram of the distances of calibration pixels called ${name}, with a line at ${distance(d)}`,
    });
    bars.forEach((share, i) => chart.layer.append(make("rect", { class: "bin", x: chart.px(i * BIN / 100) + 0.4,
      width: chart.px(BIN / 100) - chart.px(0) - 0.8, y: chart.py(share), height: chart.py(0) - chart.py(share) })));
    chart.layer.append(make("line", { class: "chance", x1: chart.px(1), x2: chart.px(1), y1: chart.py(0), y2: chart.py(1.1 * top) }),
      make("line", { class: "threshold", "data-d": d, x1: chart.px(d), x2: chart.px(d), y1: chart.py(0), y2: chart.py(1.1 * top) }));
    const whose = data.calibration.pooled.includes(c) ? "calibration pixels of all classes (too few are called " + name + ")" : `calibration pixels called ${name}`;
    histogram.replaceChildren(make("figcaption", {}, `Distances of ${whose}`), chart.svg,
      make("p", { class: "iood-key" }, "Orange: this pixel. Dashed: d = 1, which 85\u00a0% of them stay below."));
  }

  function show() {
    const { class: c, unknown, nearest } = cell(...pixel), { d } = nearest[0], name = data.names[c];
    drawScene();
    drawOwn();
    drawCenters(nearest);
    drawHistogram(c, d);
    const tail = usual(c).filter((value) => value >= Math.round(100 * d)).length / steps;
    const share = make("b", { "data-number": "tail" }, tail ? iood.percent(tail) : `less than ${iood.percent(1 / steps)}`);
    sentence.replaceChildren(unknown ? "A pixel of an unknown object (outlined), called " : "Called ", make("b", { "data-text": "class" }, name),
      ". Distance to the nearest centre: d = ", make("b", { "data-number": "d" }, distance(d)), ". As far or farther lie ", share,
      " of the calibration pixels (tail probability).");
    canvas.setAttribute("aria-label", `The scene; chosen is column ${pixel[0]}, row ${pixel[1]}. ${sentence.textContent}`);
    root.dataset.ready = `${sceneChoice.value} ${pixel.join(" ")}`;
  }

  async function change() {
    const number = sceneChoice.value, opened = await open(Number(number));
    if (number !== sceneChoice.value) return; // another one was chosen meanwhile
    scene = opened;
    [canvas.width, canvas.height] = [2 * scene.size[0], 2 * scene.size[1]];
    const inside = [...scene.planes[1].keys()].filter((i) => scene.planes[1][i]);
    const first = inside.length ? inside[inside.length >> 1] : Math.floor(0.55 * scene.rows) * scene.columns + (scene.columns >> 1);
    pixel = [first % scene.columns, Math.floor(first / scene.columns)];
    show();
  }

  function choose(x, y) {
    const within = (value, size) => Math.min(Math.max(value, 0), size - 1);
    pixel = [within(x, scene.columns), within(y, scene.rows)];
    show();
  }

  canvas.addEventListener("click", (event) => {
    const place = canvas.getBoundingClientRect();
    choose(Math.floor((event.clientX - place.left) / place.width * scene.columns),
      Math.floor((event.clientY - place.top) / place.height * scene.rows));
  });
  field.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move || !scene) return;
    event.preventDefault(); // or the page scrolls
    const far = event.shiftKey ? 10 : 1;
    choose(pixel[0] + far * move[0], pixel[1] + far * move[1]);
  });
  sceneChoice.addEventListener("change", change);
  return change();
});
