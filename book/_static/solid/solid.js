// Draws a cloud of points in three dimensions, which one can turn. It takes the figures of Plotly (scatter3d, with what
// `scatter` of the course sets of it), since Plotly's own drawing of them weighs as much as all the rest of a page.
window.ioodSolid = (() => {
  "use strict";
  const ARRAYS = { i1: Int8Array, u1: Uint8Array, i2: Int16Array, u2: Uint16Array, i4: Int32Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array };
  const START = { turn: -0.6, tilt: 0.4, zoom: 1 }, CAMERA = 6; // radians; distance of the eye, where the cloud's half is 1
  const FILL = 0.46; // half of the box's diagonal, as a share of the field
  const STEP = Math.PI / 24, NEAR = { mouse: 12, touch: 24, pen: 24 }; // a press of a key; pixels from the pointer
  const SIDES = [-1, 1], CORNERS = SIDES.flatMap((x) => SIDES.flatMap((y) => SIDES.map((z) => [x, y, z])));
  const EDGES = CORNERS.flatMap((a, i) => CORNERS.slice(i + 1).filter((b) => a.filter((v, k) => v !== b[k]).length === 1).map((b) => [a, b]));

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
    element.append(...children);
    return element;
  };

  // Plotly writes arrays of numbers as they lie in memory: {dtype, bdata}.
  const numbers = (values) => (values.bdata === undefined ? values
    : new ARRAYS[values.dtype](Uint8Array.from(atob(values.bdata), (letter) => letter.charCodeAt(0)).buffer));
  const each = (value, i) => (Array.isArray(value) ? value[i] : value);
  const hover = (trace, point) => (trace.hovertemplate ?? "%{text}").replace(/<extra>.*?<\/extra>/g, "")
    .replace(/%\{(\w+)[^}]*\}/g, (_, name) => point[name] ?? "").replaceAll("<br>", "\n");

  const points = (traces) => traces.flatMap((trace, group) => {
    const [x, y, z] = [trace.x, trace.y, trace.z].map(numbers);
    const size = trace.marker.size?.bdata ? [...numbers(trace.marker.size)] : trace.marker.size;
    return Array.from(x, (_, i) => {
      const point = { group, at: [x[i], y[i], z[i]], x: x[i], y: y[i], z: z[i], text: each(trace.text, i) };
      return Object.assign(point, { size: each(size, i) ?? 4, color: each(trace.marker.color, i), symbol: each(trace.marker.symbol, i), hover: hover(trace, point) });
    }).filter((point) => point.at.every(Number.isFinite));
  });

  // The middle of the cloud becomes 0, half of its longest side 1.
  const center = (cloud) => {
    const ends = [0, 1, 2].map((k) => cloud.reduce(([low, high], { at }) => [Math.min(low, at[k]), Math.max(high, at[k])], [Infinity, -Infinity]));
    const unit = Math.max(...ends.map(([low, high]) => high - low)) / 2 || 1;
    cloud.forEach((point) => { point.at = point.at.map((v, k) => (v - (ends[k][0] + ends[k][1]) / 2) / unit); });
    return ends.map(([low, high]) => (high - low) / 2 / unit);
  };

  return (plot, figure, height) => {
    const traces = figure.data, cloud = points(traces), half = center(cloud);
    const shown = traces.map((trace) => trace.visible !== "legendonly");
    const view = { ...START };
    let chosen = null, asked = 0;

    // ---- what is on the page
    const canvas = make("canvas"), note = make("div", { class: "iood-solid-note", role: "status" });
    const field = make("div", { class: "iood-solid-field", tabindex: 0, role: "group",
      "aria-label": "Points in three dimensions; the arrow keys turn them, plus and minus zoom, Home goes back" }, canvas, note);
    const buttons = traces.map((trace, group) => {
      const sign = make("span", { class: each(trace.marker.symbol, 0) === "diamond" ? "iood-solid-diamond" : "iood-solid-circle" });
      sign.style.background = each(trace.marker.color, 0);
      const button = make("button", { type: "button", "aria-pressed": shown[group] }, sign, trace.name);
      button.addEventListener("click", () => show((other) => shown[other] !== (other === group)));
      button.addEventListener("dblclick", () => { // this one alone, or all again
        const alone = shown.every((is, other) => is === (other === group));
        show((other) => alone || other === group);
      });
      return button;
    });
    plot.replaceChildren(make("div", { class: "iood-solid" }, make("p", { class: "iood-solid-title" }, figure.layout.title?.text ?? ""), field,
      make("div", { class: "iood-solid-legend", role: "group", "aria-label": "Groups of points, to hide and show" }, ...buttons),
      make("p", { class: "iood-solid-hint" }, "Drag or press arrow keys to turn; + and − zoom, Home goes back. A click on a name hides its points, a double click all others.")));
    plot.style.setProperty("--height", `${height}px`);

    function show(wanted) {
      traces.forEach((_, group) => { shown[group] = wanted(group); });
      buttons.forEach((button, group) => button.setAttribute("aria-pressed", shown[group]));
      choose(null);
    }

    // ---- drawing
    const project = ([x, y, z]) => { // to the right, up, and away from the eye
      const [s, c, st, ct] = [Math.sin(view.turn), Math.cos(view.turn), Math.sin(view.tilt), Math.cos(view.tilt)];
      const [right, back] = [x * c - y * s, x * s + y * c];
      const [up, away] = [z * ct + back * st, back * ct - z * st];
      const near = CAMERA / (CAMERA + away), unit = near * view.zoom * Math.min(field.clientWidth, field.clientHeight) * FILL / Math.hypot(...half);
      return { px: field.clientWidth / 2 + right * unit, py: field.clientHeight / 2 - up * unit, near, away };
    };

    function outline(pen, { px, py, near, size, symbol }, more = 0) {
      const far = (size / 2 + 0.8) * near + more;
      pen.beginPath();
      if (symbol === "diamond") [[0, -1.5], [1.5, 0], [0, 1.5], [-1.5, 0]].forEach(([x, y]) => pen.lineTo(px + far * x, py + far * y));
      else pen.arc(px, py, far, 0, 2 * Math.PI);
      pen.closePath();
    }

    function box(pen, ink) {
      const nearest = CORNERS.map((corner) => corner.map((v, k) => v * half[k])).reduce((a, b) => (project(a).away < project(b).away ? a : b));
      pen.strokeStyle = ink;
      EDGES.map((edge) => edge.map((corner) => corner.map((v, k) => v * half[k]))).forEach(([a, b]) => {
        const [from, to] = [project(a), project(b)];
        const front = [a, b].some((corner) => corner.every((v, k) => v === nearest[k]));
        pen.globalAlpha = front ? 0.15 : 0.35; // what lies before the points is fainter
        pen.beginPath();
        pen.moveTo(from.px, from.py);
        pen.lineTo(to.px, to.py);
        pen.stroke();
      });
    }

    function draw(ratio = window.devicePixelRatio || 1) {
      asked = 0;
      [canvas.width, canvas.height] = [field.clientWidth, field.clientHeight].map((side) => Math.round(side * ratio));
      const pen = canvas.getContext("2d"), ink = getComputedStyle(field).color;
      pen.scale(ratio, ratio);
      pen.lineWidth = 1;
      box(pen, ink);
      cloud.forEach((point) => Object.assign(point, project(point.at)));
      const seen = cloud.filter((point) => shown[point.group]).sort((a, b) => b.away - a.away);
      seen.forEach((point) => {
        const { line = {}, opacity = 1 } = traces[point.group].marker;
        outline(pen, point);
        pen.globalAlpha = opacity * Math.min(1, Math.max(0.35, 0.75 - 0.4 * point.away)); // what is far is faint
        pen.fillStyle = point.color;
        pen.fill();
        pen.lineWidth = line.width ?? 0;
        pen.strokeStyle = line.color ?? "transparent";
        pen.stroke();
      });
      if (!chosen) return;
      pen.globalAlpha = 1;
      pen.strokeStyle = ink;
      pen.lineWidth = 2;
      outline(pen, chosen, 3);
      pen.stroke();
      note.style.left = `${Math.min(Math.max(chosen.px, 0.5 * note.offsetWidth), field.clientWidth - 0.5 * note.offsetWidth)}px`;
      note.style.top = `${chosen.py + (chosen.py < note.offsetHeight + 12 ? 12 : -12 - note.offsetHeight)}px`;
    }

    const soon = () => { asked ||= requestAnimationFrame(() => draw()); };

    // ---- turning, zooming, pointing
    function choose(point) {
      chosen = point;
      note.textContent = point?.hover ?? "";
      soon();
    }

    function turn(right, down) {
      view.turn += right;
      view.tilt = Math.min(Math.max(view.tilt + down, -Math.PI / 2), Math.PI / 2);
      soon();
    }

    function zoom(factor) {
      view.zoom = Math.min(Math.max(view.zoom * factor, 0.5), 8);
      soon();
    }

    function point(event) {
      const area = canvas.getBoundingClientRect(), [x, y] = [event.clientX - area.left, event.clientY - area.top];
      let best = null, least = NEAR[event.pointerType] ?? NEAR.mouse;
      cloud.filter(({ group }) => shown[group]).forEach((one) => {
        const far = Math.hypot(one.px - x, one.py - y) + one.away; // of those as near to the pointer, the one in front
        if (far < least) [best, least] = [one, far];
      });
      if (best !== chosen) choose(best);
    }

    let held = null; // where the pointer was, while it turns
    field.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      held = [event.clientX, event.clientY];
      field.setPointerCapture(event.pointerId);
    });
    field.addEventListener("pointermove", (event) => {
      if (!held) return event.pointerType === "mouse" ? point(event) : undefined;
      const reach = Math.PI / Math.max(field.clientWidth, 300);
      turn((event.clientX - held[0]) * reach, (event.clientY - held[1]) * reach);
      held = [event.clientX, event.clientY];
    });
    ["pointerup", "pointercancel"].forEach((name) => field.addEventListener(name, () => { held = null; }));
    field.addEventListener("click", point);
    field.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse" && !held) choose(null); });
    field.addEventListener("wheel", (event) => { // alone, the wheel scrolls the page
      if (!event.ctrlKey) return;
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 300));
    }, { passive: false });
    field.addEventListener("keydown", (event) => {
      const act = { ArrowLeft: () => turn(-STEP, 0), ArrowRight: () => turn(STEP, 0), ArrowUp: () => turn(0, -STEP), ArrowDown: () => turn(0, STEP),
        "+": () => zoom(1.2), "=": () => zoom(1.2), "-": () => zoom(1 / 1.2), Home: () => { Object.assign(view, START); soon(); }, Escape: () => choose(null) }[event.key];
      if (!act || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault(); // or the page scrolls
      act();
    });
    new ResizeObserver(soon).observe(field);
    draw();
    return draw;
  };
})();
