// The figures: plotly is unpacked and run after the first paint, then draws them in the reader's colours.
import {byId, colour, make, read, unpack} from "./dom.js";

/** @param {Record<string, any>} layout @returns {Record<string, string>} */
const themed = layout => {
  const said = {"font.color": colour("--ink"), "hoverlabel.bgcolor": colour("--card"), "hoverlabel.bordercolor": colour("--line"),
                "hoverlabel.font.color": colour("--ink")};
  for (const axis of Object.keys(layout).filter(key => /^[xy]axis\d*$/.test(key)))
    Object.assign(said, {[`${axis}.gridcolor`]: colour("--line"), [`${axis}.linecolor`]: colour("--line")});
  return said;
};

/** A labelled select above the figure, whose choices show their own traces. @param {any} plot @param {any} figure */
const addSwitch = (plot, figure) => {
  const wanted = figure.layout.meta && figure.layout.meta.switch;
  if (!wanted || wanted.choices.length < 2) return;
  const owned = new Set(wanted.choices.flatMap((/** @type {any} */ choice) => choice.traces));
  const controls = make("div", {className: "controls"});
  const select = make("select", {parent: make("label", {text: `${wanted.name} `, parent: controls})});
  wanted.choices.forEach((/** @type {any} */ choice, /** @type {number} */ at) =>
    make("option", {text: choice.label, value: at, parent: select}));
  select.addEventListener("change", () => {
    const shown = new Set(wanted.choices[select.value].traces);
    globalThis.Plotly.update(plot, {visible: figure.data.map((/** @type {any} */ _, /** @type {number} */ at) =>
      !owned.has(at) || shown.has(at))}, wanted.choices[select.value].layout);
  });
  plot.before(controls);
};

const SMALLEST = 9;

/** @param {DOMRect} one @param {DOMRect} other */
const apart = (one, other) =>
  one.right <= other.left || other.right <= one.left || one.bottom <= other.top || other.bottom <= one.top;

/** Moves the labels of marks into the plot, and hides those that would cover another (the pick's comes first): pointing at a mark
 * says what it is. @param {any} plot */
const clearMarks = plot => {
  const area = plot.querySelector(".nsewdrag")?.getBoundingClientRect();
  const labels = [...plot.querySelectorAll(".scatterlayer .textpoint text")];
  /** @type {DOMRect[]} */
  const taken = [];
  for (const label of labels.sort((a, b) => b.textContent.includes("★") - a.textContent.includes("★"))) {
    // Plotly's own transform is one translation; ours is a second one behind it.
    const own = (label.parentNode.getAttribute("transform") || "").replace(/ translate[^ ]*$/, "");
    label.parentNode.setAttribute("transform", own);
    const box = label.getBoundingClientRect();
    const shift = Math.max(area.left - box.left, 0) - Math.max(box.right - area.right, 0);
    if (shift) label.parentNode.setAttribute("transform", `${own} translate(${shift},0)`);
    const place = label.getBoundingClientRect();
    const free = taken.every(other => apart(other, place));
    label.style.visibility = free ? "" : "hidden";
    if (free) taken.push(place);
  }
};

/** Makes the numbers in a heatmap's cells smaller where neighbours would touch, and hides them where they would be too small to
 * read. @param {any} plot */
const clearCells = plot => {
  for (const layer of plot.querySelectorAll(".heatmaplayer .hm")) {
    const labels = [...layer.querySelectorAll(".heatmap-label")];
    const boxes = labels.map(label => label.getBoundingClientRect());
    const middles = [...new Set(boxes.map(box => Math.round((box.left + box.right) / 2)))].sort((a, b) => a - b);
    const column = Math.min(...middles.slice(1).map((at, index) => at - middles[index]).filter(gap => gap > 2));
    const fit = (column - 4) / Math.max(...boxes.map(box => box.width));
    const size = labels.length ? parseFloat(getComputedStyle(labels[0]).fontSize) : 0;
    for (const label of fit < 1 ? labels : []) {
      label.style.fontSize = `${size * fit}px`;
      label.style.visibility = size * fit < SMALLEST ? "hidden" : "";
    }
  }
};

/** Draws every figure that the page has a place for; resolves when all are drawn. @returns {Promise<void>} */
export const drawFigures = async () => {
  /** @type {any[]} */
  const plots = [...document.querySelectorAll("[data-figure]")];
  if (!plots.length || !byId("plotly")) return;
  // A script element made here runs under the page's policy because the policy lists the hash of its text.
  make("script", {text: await unpack("plotly"), parent: document.head});
  const figures = read("figure-data");
  for (const plot of plots) {
    const figure = figures[plot.dataset.figure];
    addSwitch(plot, figure);
    await globalThis.Plotly.newPlot(plot, figure.data, figure.layout, {displayModeBar: false, responsive: true});
    plot.on("plotly_afterplot", () => {
      clearMarks(plot);
      clearCells(plot);
    });
    await globalThis.Plotly.relayout(plot, themed(figure.layout));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const plot of plots) globalThis.Plotly.relayout(plot, themed(figures[plot.dataset.figure].layout));
  });
};
