// Draws the figures of a page as they come into view. Plotly, by far the heaviest part of the book, is loaded then, once;
// clouds of points in three dimensions have a small script of their own.
(() => {
  const folder = document.currentScript.src;
  const narrow = window.matchMedia("(max-width: 600px)");
  const scripts = {};

  const boxes = [...document.querySelectorAll(".iood-figure")];

  const load = (name) => {
    scripts[name] ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = new URL(name, folder);
      script.onload = done;
      script.onerror = failed;
      document.head.append(script);
    });
    return scripts[name];
  };

  // The figure as Python packed it: JSON, deflated, as base64.
  const unpacked = (box) => {
    const bytes = Uint8Array.from(atob(box.querySelector("script").textContent), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).json();
  };

  // The colours of the page, light or dark.
  const colors = () => {
    const style = getComputedStyle(document.querySelector(".bd-article") ?? document.body);
    return { font: style.color, ground: getComputedStyle(document.body).backgroundColor };
  };

  const wrapped = (text, width) =>
    text.split("<br>").map((line) => line.split(" ").reduce((lines, word) => {
      const last = lines[lines.length - 1];
      return last && last.length + word.length < width ? [...lines.slice(0, -1), `${last} ${word}`] : [...lines, word];
    }, []).join("<br>")).join("<br>");

  // The same figure for the width and the colours of the page: on a phone the legend lies below the plot.
  const adapted = (figure, box) => {
    const layout = structuredClone(figure.layout);
    layout.font = { ...layout.template?.layout?.font, ...layout.font, color: colors().font };
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: colors().font, activecolor: colors().font };
    layout.hoverlabel = { bgcolor: colors().ground, font: { color: colors().font } };
    const title = layout.title?.text ?? "";
    if (title) layout.title.text = wrapped(title, Math.floor((box.clientWidth - 20) / 7.5));
    const lines = layout.title?.text ? layout.title.text.split("<br>").length : 0;
    layout.margin = { ...layout.template?.layout?.margin, ...layout.margin };
    layout.margin.t = Math.max(layout.margin.t ?? 60, 30 + 20 * lines);
    if (layout.title) Object.assign(layout.title, { yref: "container", y: 1, yanchor: "top", pad: { t: 14 } });
    layout.height = Number(box.dataset.height);
    if (narrow.matches) {
      layout.dragmode = false;  // a finger on the figure scrolls the page
      Object.assign(layout.margin, { l: 48, r: 8 });
      for (const axis of ["xaxis", "yaxis"]) layout[axis] = { ...layout[axis], automargin: true };
      layout.legend = { ...layout.legend, orientation: "h", x: 0, xanchor: "left", y: -0.2, yanchor: "top" };
      layout.height += layout.margin.t - 60;
    }
    return layout;
  };

  // A legend below the plot starts where the numbers and the name of the axis end, turned or wrapped as they may be.
  const lowered = async (plotly, plot) => {
    const edges = (selector) => [...plot.querySelectorAll(selector)].map((e) => e.getBoundingClientRect());
    const [area] = edges(".nsewdrag");
    if (!area || plot.layout.legend?.orientation !== "h" || !(plot.layout.legend.y < 0)) return;
    const end = Math.max(area.bottom, ...edges(".xtick text, .g-xtitle text").map((text) => text.bottom));
    await plotly.relayout(plot, { "legend.y": (area.bottom - end - 12) / area.height, "legend.yanchor": "top" });
  };

  const drawFlat = async (box, figure) => {
    await load("plotly/plotly-basic.min.js");
    const plot = box.querySelector(".iood-plot");
    await Plotly.react(plot, figure.data, adapted(figure, box), { displaylogo: false, responsive: true,
      displayModeBar: narrow.matches ? false : "hover" });
    await lowered(Plotly, plot);
  };

  const drawSolid = async (box, figure, ratio) => {
    box.cloud ??= load("solid/solid.js").then(() => ioodSolid(box.querySelector(".iood-plot"), figure, box.dataset.height));
    (await box.cloud)(ratio);
  };

  const draw = async (box, ratio) => {
    box.figure ??= unpacked(box);
    await (box.dataset.kind === "solid" ? drawSolid : drawFlat)(box, await box.figure, ratio);
    box.dataset.drawn = "yes";
  };

  const watch = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
    watch.unobserve(entry.target);
    draw(entry.target);
  }), { rootMargin: "300px" });
  boxes.forEach((box) => watch.observe(box));

  const again = () => boxes.filter((box) => box.dataset.drawn).forEach((box) => draw(box));
  narrow.addEventListener("change", again);
  new MutationObserver(again).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  window.addEventListener("beforeprint", () => boxes.forEach((box) => draw(box, 3)));  // dots of paper are small
})();
