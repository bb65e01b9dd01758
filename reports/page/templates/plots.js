"use strict";
// Draws the figures of a small page, in the reader's light or dark colours, with a select where a figure asks for one.
(() => {
  const figures = JSON.parse(document.getElementById("figure-data").textContent);
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const themed = layout => {
    const said = {"font.color": colour("--ink"), "hoverlabel.bgcolor": colour("--card"), "hoverlabel.bordercolor": colour("--line"),
                  "hoverlabel.font.color": colour("--ink")};
    for (const axis of Object.keys(layout).filter(key => /^[xy]axis\d*$/.test(key))) {
      said[`${axis}.gridcolor`] = colour("--line");
      said[`${axis}.linecolor`] = colour("--line");
    }
    return said;
  };
  const offer = (plot, figure) => {
    const wanted = figure.layout.meta && figure.layout.meta.switch;
    if (!wanted || wanted.choices.length < 2) return;
    const controls = document.createElement("div");
    controls.className = "controls";
    const label = document.createElement("label");
    label.textContent = `${wanted.name} `;
    const select = document.createElement("select");
    for (const [at, choice] of wanted.choices.entries()) select.add(new Option(choice.label, at));
    label.append(select);
    controls.append(label);
    plot.before(controls);
    select.addEventListener("change", () => {
      const shown = new Set(wanted.choices[select.value].traces);
      Plotly.restyle(plot, {visible: figure.data.map((_, at) => shown.has(at))});
    });
  };
  const plots = [...document.querySelectorAll("[data-figure]")];
  for (const plot of plots) {
    const figure = figures[plot.dataset.figure];
    offer(plot, figure);
    Plotly.newPlot(plot, figure.data, figure.layout, {displayModeBar: false, responsive: true})
      .then(() => Plotly.relayout(plot, themed(figure.layout)));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const plot of plots) Plotly.relayout(plot, themed(figures[plot.dataset.figure].layout));
  });
})();
