"use strict";
(() => {
  const read = id => JSON.parse(document.getElementById(id).textContent);
  const make = (tag, text, parent) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Figures -------------------------------------------------------------------------------------------------------
  const themed = layout => {
    const said = {"font.color": colour("--ink"), "hoverlabel.bgcolor": colour("--card"), "hoverlabel.bordercolor": colour("--line"),
                  "hoverlabel.font.color": colour("--ink")};
    for (const axis of Object.keys(layout).filter(key => /^[xy]axis\d*$/.test(key)))
      Object.assign(said, {[`${axis}.gridcolor`]: colour("--line"), [`${axis}.linecolor`]: colour("--line")});
    return said;
  };
  const addSwitch = (plot, figure) => {
    const wanted = figure.layout.meta && figure.layout.meta.switch;
    if (!wanted || wanted.choices.length < 2) return;
    const owned = new Set(wanted.choices.flatMap(choice => choice.traces));
    const controls = make("div");
    controls.className = "controls";
    const select = make("select", undefined, make("label", `${wanted.name} `, controls));
    wanted.choices.forEach((choice, at) => { make("option", choice.label, select).value = at; });
    select.addEventListener("change", () => {
      const shown = new Set(wanted.choices[select.value].traces);
      Plotly.restyle(plot, {visible: figure.data.map((_, at) => !owned.has(at) || shown.has(at))});
    });
    plot.before(controls);
  };
  const figures = read("figure-data");
  const plots = [...document.querySelectorAll("[data-figure]")];
  for (const plot of plots) {
    const figure = figures[plot.dataset.figure];
    addSwitch(plot, figure);
    Plotly.newPlot(plot, figure.data, figure.layout, {displayModeBar: false, responsive: true})
      .then(() => Plotly.relayout(plot, themed(figure.layout)));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const plot of plots) Plotly.relayout(plot, themed(figures[plot.dataset.figure].layout));
  });

  // Image grid ----------------------------------------------------------------------------------------------------
  const grid = document.getElementById("grid");
  if (!grid) return;
  const shelf = read("shelf-data");
  const [prompt, seed, viewer] = ["grid-prompt", "grid-seed", "viewer"].map(id => document.getElementById(id));
  for (const one of shelf.prompts) make("option", one.text.length > 80 ? `${one.text.slice(0, 79)}…` : one.text, prompt).value = one.id;
  for (const one of shelf.seeds) make("option", one, seed).value = one;
  const show = (cell, alt) => {
    const image = viewer.querySelector("img");
    image.src = cell.src;
    image.alt = alt;
    viewer.querySelector("p").textContent = alt;
    viewer.showModal();
  };
  const fill = (place, cell, alt) => {
    if (!cell.src) { make("span", cell.why, place).className = "hole"; return; }
    const button = make("button", undefined, place);
    const image = make("img", undefined, button);
    Object.assign(image, {src: cell.src, alt, title: alt, width: 112, height: 112});
    button.addEventListener("click", () => show(cell, alt));
  };
  const draw = () => {
    const panel = shelf.panels[`${prompt.value}\n${seed.value}`];
    for (const old of grid.querySelectorAll("thead, tbody")) old.remove();
    const scales = shelf.guidances.map(scale => ({label: `CFG ${scale}`}));
    const turned = scales.length === 1;  // one scale: candidates side by side instead of one long column
    const [rows, columns] = turned ? [scales, shelf.candidates] : [shelf.candidates, scales];
    grid.style.setProperty("--columns", columns.length);
    const name = (of, place, scope) => {
      place.scope = scope;
      if (of.role) make("span", of.role, place).className = "role";
    };
    const head = make("tr", undefined, make("thead", undefined, grid));
    make("td", "", head);
    for (const column of columns) name(column, make("th", column.label, head), "col");
    const body = make("tbody", undefined, grid);
    rows.forEach((row, down) => {
      const line = make("tr", undefined, body);
      name(row, make("th", row.label, line), "row");
      columns.forEach((column, across) => {
        const [candidate, scale] = turned ? [across, down] : [down, across];
        const place = make("td", undefined, line);
        if (candidate === shelf.pick[0] && scale === shelf.pick[1]) place.className = "pick";
        const cell = panel ? panel[candidate][scale] : {why: "left out of this page"};
        fill(place, cell, `${shelf.candidates[candidate].label}, CFG ${shelf.guidances[scale]}: ${cell.says || ""}`);
      });
    });
  };
  for (const select of [prompt, seed]) select.addEventListener("change", draw);
  draw();
})();
