// What a page is asked in the browser: functions that return lists of findings, each a sentence or a name.
(() => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const known = {};
  const rgba = (color) => (known[color] ??= (() => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  })());
  const over = (front, back) => [0, 1, 2].map((i) => front[i] * front[3] + back[i] * (1 - front[3]));
  const parents = (element) => (element ? [element, ...parents(element.parentElement)] : []);
  const ground = (element) => parents(element).map((e) => rgba(getComputedStyle(e).backgroundColor)).reverse()
    .reduce((below, layer) => over(layer, below), [255, 255, 255]);
  const luminance = (color) => {
    const [r, g, b] = color.map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const hidden = "script, style, dialog, noscript, button, .sr-only, .skip-link, #pst-back-to-top, .bartext";
  // (.bartext: numbers in bars, for which Plotly chooses black or white)

  // Text below the contrast of WCAG 2 level AA, 4.5 : 1.
  const pale = () => {
    const found = new Set();
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const text = texts.currentNode.textContent.trim();
      const element = texts.currentNode.parentElement;
      if (!text || element.closest(hidden) || !element.checkVisibility({ visibilityProperty: true })) continue;
      const style = getComputedStyle(element);
      const opacity = parents(element).reduce((product, e) => product * getComputedStyle(e).opacity, 1);
      if (!opacity) continue;
      const back = ground(element);
      const [r, g, b, a] = rgba(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
      const [low, high] = [luminance(over([r, g, b, a * opacity], back)), luminance(back)].sort((x, y) => x - y);
      const ratio = (high + 0.05) / (low + 0.05);
      if (ratio < 4.5) found.add(`${ratio.toFixed(1)} ${element.tagName} ${element.className} ${text.slice(0, 40)}`);
    }
    return [...found];
  };

  // Elements beyond the right edge that no box of their own scrolls.
  const wide = () => {
    const page = document.documentElement;
    if (page.scrollWidth <= page.clientWidth) return [];
    const scrolls = (element) => parents(element).slice(1, -2)
      .some((e) => ["auto", "scroll", "hidden"].includes(getComputedStyle(e).overflowX));
    return ["the page", ...[...document.querySelectorAll("main *")]
      .filter((e) => e.getBoundingClientRect().right > page.clientWidth + 1 && !scrolls(e))
      .map((e) => `${e.tagName} ${e.className}`).slice(0, 5)];
  };

  // Code, in sight when the page opens, whose lines do not fit.
  const scrolled = () => [...document.querySelectorAll("main pre")].filter((e) => e.scrollWidth > e.clientWidth + 1)
    .filter((e) => e.checkVisibility()).map((e) => e.textContent.split("\n").sort((a, b) => b.length - a.length)[0]);

  // Legends that cover a part of a plot, or what is written along its axis.
  const covering = () => [...document.querySelectorAll(".iood-figure")].flatMap((figure, i) => {
    const legend = figure.querySelector(".legend")?.getBoundingClientRect();
    const plots = [...figure.querySelectorAll(".nsewdrag, .xtick text, .g-xtitle text")].map((plot) => plot.getBoundingClientRect());
    const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
    return legend && plots.some((plot) => meet(legend, plot)) ? [`figure ${i}`] : [];
  });

  // Words of figures that the figure's edge cuts.
  const cut = () => [...document.querySelectorAll(".iood-figure")].flatMap((figure) => {
    const box = figure.getBoundingClientRect();
    return [...figure.querySelectorAll(".main-svg text")].filter((text) => {
      const { left, right, width } = text.getBoundingClientRect();
      return width && (left < box.left - 1 || right > box.right + 1);
    }).map((text) => text.textContent);
  });

  // Icons of the theme for which the book has no drawing.
  const iconless = () => [...document.querySelectorAll('i[class*="fa-"], span[class*="fa-"]')]
    .filter((icon) => getComputedStyle(icon).maskImage === "none").map((icon) => icon.className);

  // Samples of a color that show none.
  const colorless = () => [...document.querySelectorAll(".iood-color")].map((e) => e.getBoundingClientRect())
    .filter((box) => box.width < 10 || box.height < 10).map((box) => `${box.width} x ${box.height}`);

  // Sliders too small for a finger.
  const small = () => [...document.querySelectorAll('main input[type="range"]')].map((e) => e.getBoundingClientRect())
    .filter((box) => box.width < 250 || box.height < 24).map((box) => `${box.width} x ${box.height}`);

  return { pale, wide, scrolled, covering, cut, iconless, colorless, small };
})()
