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
    await globalThis.Plotly.relayout(plot, themed(figure.layout));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const plot of plots) globalThis.Plotly.relayout(plot, themed(figures[plot.dataset.figure].layout));
  });
};
