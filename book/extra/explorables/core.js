/* What the explorables share: loading the data when a page is scrolled to them, decoding it, metrics, small drawings.
 *
 * An explorable is <div class="iood-explorable" data-explorable="NAME">; the script NAME.js registers what fills it. Its
 * data is JSON in a <script type="application/json"> inside of it, or the file data-source.js beside this script. */
window.ioodExplorables = (() => {
  "use strict";
  const here = document.currentScript && document.currentScript.src.replace(/[^/]*$/, "");
  const AHEAD = 400; // pixels below the window where loading begins
  const files = {}; // by name: a promise of the content, and what keeps it

  // ---- a data file is a script, since a page that is opened as a file may not fetch others

  function file(source) {
    if (!files[source]) {
      files[source] = {};
      files[source].content = new Promise((resolve, reject) => Object.assign(files[source], { resolve, reject }));
    }
    return files[source];
  }

  /* Called by the data file itself. */
  function receive(source, content) {
    file(source).resolve(content);
  }

  async function load(root) {
    const inside = root.querySelector('script[type="application/json"]');
    if (inside) return JSON.parse(inside.textContent);
    const source = root.dataset.source || "scenes";
    if (!files[source]) {
      const script = document.createElement("script");
      script.src = `${here}${source}.js`;
      script.onerror = () => file(source).reject(new Error("its data could not be loaded"));
      document.head.append(script);
    }
    return file(source).content;
  }

  function register(name, build) {
    const fill = (root) => {
      if (root.dataset.filled) return; // a notebook brings the scripts with every figure
      root.dataset.filled = "yes";
      load(root).then((content) => build(root, content)).catch((error) => {
        root.textContent = `This figure could not be drawn in this browser (${error.message}).`;
      });
    };
    const start = () => document.querySelectorAll(`[data-explorable="${name}"]`).forEach((root) => {
      if (root.getBoundingClientRect().top < window.innerHeight + AHEAD) { // seen at once
        fill(root);
        return;
      }
      const seen = new IntersectionObserver((entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        seen.disconnect();
        fill(root);
      }, { rootMargin: `${AHEAD}px` });
      seen.observe(root);
    });
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
    else start();
  }

  /* A map as Python's encode_map writes it: base64, deflated differences from what three neighbors let expect. */
  async function decode(text, rows, columns) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const inflate = new DecompressionStream("deflate"), writer = inflate.writable.getWriter();
    Promise.all([writer.write(packed), writer.close()]).catch(() => {}); // reading fails, too, and says so
    const values = new Uint8Array(await new Response(inflate.readable).arrayBuffer());
    for (let y = 0, i = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++, i++) {
        const left = x ? values[i - 1] : 0;
        const up = y ? values[i - columns] : 0;
        const corner = x && y ? values[i - columns - 1] : 0;
        const low = Math.min(left, up), high = Math.max(left, up);
        values[i] += corner >= high ? low : corner <= low ? high : left + up - corner; // modulo 256
      }
    }
    return values;
  }

  /* Whole numbers as Python's encode_numbers writes them: a row of their high bytes, a row of their low ones. */
  async function decodeNumbers(text, count) {
    const bytes = await decode(text, 2, count);
    return Array.from({ length: count }, (_, i) => 256 * bytes[i] + bytes[count + i]);
  }

  /* A picture from a data: address. */
  async function image(source) {
    const picture = new Image();
    await new Promise((done, refuse) => {
      picture.onload = done;
      picture.onerror = () => refuse(new Error("its picture is damaged"));
      picture.src = source;
    });
    return picture;
  }

  /* A scene with its maps and its picture, decoded once; `data` is what holds it. */
  async function open(scene, data, names = ["odds", "distance", "classes", "kinds"]) {
    if (!scene.maps) {
      const maps = await Promise.all(names.map((name) => decode(scene[name], data.rows, data.columns)));
      const picture = await image(scene.image);
      scene.maps = { picture, ...Object.fromEntries(names.map((name, i) => [name, maps[i]])) };
    }
    return scene.maps;
  }

  // ---- the method and its metrics: the definitions are those of the book's reference

  const RIGHT = 0, WRONG = 1, UNKNOWN = 2; // 3 is void: it counts nowhere
  const UNKNOWN_COLOR = "rgb(0, 200, 255)", KNOWN_COLOR = "rgb(128, 139, 152)"; // OOD_COLOR in Python

  const sigmoid = (x) => 1 / (1 + Math.exp(-x));

  /* Log-odds that the calibrated rule takes at the distance d (1: what 85 % of the calibration pixels stay below). */
  const penalty = (d, strength, width) => strength * Math.tanh(Math.max(d - 1, 0) / width);

  /* How many pixels of each kind have each level of log-odds; a rule lowers the levels first. */
  function count(maps, levels, rule) {
    const counts = [RIGHT, WRONG, UNKNOWN].map(() => new Array(levels).fill(0));
    maps.odds.forEach((level, i) => {
      if (maps.kinds[i] > UNKNOWN) return;
      const lowered = rule ? level - Math.round(10 * penalty(maps.distance[i] / 100, rule.strength, rule.width)) : level;
      counts[maps.kinds[i]][Math.max(lowered, 0)] += 1;
    });
    const [right, wrong, unknown] = counts;
    return { right, wrong, unknown, known: right.map((n, i) => n + wrong[i]) };
  }

  /* The confusion counts for every threshold: entry t calls unknown what has a level below t. */
  function confusion(counts) {
    const rows = [{ tp: 0, fp: 0 }];
    counts.unknown.forEach((n, i) => rows.push({ tp: rows[i].tp + n, fp: rows[i].fp + counts.known[i] }));
    const all = rows[rows.length - 1];
    return rows.map(({ tp, fp }) => ({
      tp, fp, fn: all.tp - tp, tn: all.fp - fp,
      recall: tp / all.tp, fpr: fp / all.fp, precision: tp + fp ? tp / (tp + fp) : 1,
    }));
  }

  /* AUROC, average precision, FPR95 with the threshold where it is reached, and the share of unknown pixels. */
  function ranking(rows) {
    let auroc = 0, auprc = 0;
    for (let t = 1; t < rows.length; t++) {
      auroc += (rows[t].fpr - rows[t - 1].fpr) * (rows[t].recall + rows[t - 1].recall) / 2;
      auprc += (rows[t].recall - rows[t - 1].recall) * rows[t].precision;
    }
    const at95 = rows.findIndex((row) => row.recall >= 0.95);
    const all = rows[rows.length - 1];
    return { auroc, auprc, at95, fpr95: rows[at95].fpr, share: all.tp / (all.tp + all.fp) };
  }

  /* Expected calibration error over 15 bins of confidence, and the bins; unknown pixels do not count. */
  function calibration(counts, lowest) {
    const bins = Array.from({ length: 15 }, () => ({ pixels: 0, right: 0, confidence: 0 }));
    counts.known.forEach((n, level) => {
      const confidence = sigmoid((level + lowest) / 10);
      const bin = bins[Math.min(Math.floor(15 * confidence), 14)];
      bin.pixels += n;
      bin.right += counts.right[level];
      bin.confidence += n * confidence;
    });
    const all = bins.reduce((sum, bin) => sum + bin.pixels, 0);
    return { bins, ece: bins.reduce((sum, bin) => sum + Math.abs(bin.right - bin.confidence), 0) / all };
  }

  // ---- small helpers for what is on the page

  /* An element with attributes and children (text or elements). */
  function make(tag, attributes = {}, ...children) {
    const drawn = ["svg", "g", "path", "line", "rect", "circle", "text"].includes(tag);
    const element = drawn ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
    element.append(...children);
    return element;
  }

  let controls = 0;

  /* A native control below its label, with room for its value. */
  function labelled(text, control) {
    control.id = `iood-control-${++controls}`;
    const value = make("output", { for: control.id });
    const label = make("label", { for: control.id }, text);
    return { box: make("div", { class: "iood-control" }, make("div", {}, label, " ", value), control), value };
  }

  const choices = (entries) => make("select", {}, ...entries.map(([value, text]) => make("option", { value }, text)));

  const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
  const signed = (value, digits) => value.toFixed(digits).replace("-", "−");

  /* A confidence with as many digits as tell it from 1. */
  function confidenceText(value) {
    return value.toFixed(value > 0.9995 ? 5 : value > 0.995 ? 4 : 3);
  }

  /* A square or wide plot of a unit square or of a range, with axes; returns the place of a point, too. */
  function plot({ width = 300, height = 240, x, y, xTicks, yTicks, xLabel, yLabel, alt }) {
    const box = { left: 44, right: width - 10, top: 10, bottom: height - 40 };
    const px = (v) => box.left + (v - x[0]) / (x[1] - x[0]) * (box.right - box.left);
    const py = (v) => box.bottom - (v - y[0]) / (y[1] - y[0]) * (box.bottom - box.top);
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": alt });
    xTicks.forEach(([v, text]) => svg.append(
      make("line", { class: "grid", x1: px(v), x2: px(v), y1: box.top, y2: box.bottom }),
      make("text", { x: px(v), y: box.bottom + 15, "text-anchor": "middle" }, text)));
    yTicks.forEach(([v, text]) => svg.append(
      make("line", { class: "grid", x1: box.left, x2: box.right, y1: py(v), y2: py(v) }),
      make("text", { x: box.left - 5, y: py(v) + 4, "text-anchor": "end" }, text)));
    svg.append(make("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, xLabel));
    const middle = (box.top + box.bottom) / 2;
    svg.append(make("text", { x: 11, y: middle, "text-anchor": "middle", transform: `rotate(-90 11 ${middle})` }, yLabel));
    const layer = make("g");
    svg.append(layer);
    const line = (points) => points.map(([a, b], i) => `${i ? "L" : "M"}${px(a).toFixed(1)} ${py(b).toFixed(1)}`).join("");
    return { svg, layer, px, py, line };
  }

  // Cividis from dark to bright; a step between two of these colors is linear.
  const SCALE = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115],
    [138, 134, 120], [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56]];

  /* A map of values 0..1 as colors: drawn small, and enlarged without smoothing. */
  function paint(canvas, columns, rows, valueAt) {
    const small = make("canvas", { width: columns, height: rows });
    const colors = new ImageData(columns, rows);
    for (let i = 0; i < rows * columns; i++) {
      const place = valueAt(i) * (SCALE.length - 1), low = Math.min(Math.floor(place), SCALE.length - 2);
      for (let c = 0; c < 3; c++) colors.data[4 * i + c] = SCALE[low][c] + (place - low) * (SCALE[low + 1][c] - SCALE[low][c]);
      colors.data[4 * i + 3] = 255;
    }
    small.getContext("2d").putImageData(colors, 0, 0);
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, 0, 0, canvas.width, canvas.height);
  }

  const UNIT = [[0, "0"], [0.25, ".25"], [0.5, ".5"], [0.75, ".75"], [1, "1"]];

  return {
    receive, register, open, image, decode, sigmoid, penalty, count, confusion, ranking, calibration,
    make, labelled, choices, percent, signed, confidenceText, plot, paint, UNIT, UNKNOWN, WRONG, UNKNOWN_COLOR, KNOWN_COLOR,
    decodeNumbers, SCALE,
  };
})();
