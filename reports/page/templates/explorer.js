// The image explorer: rows, columns and pages can be any dimension, and only the cells in view are in the document.
import {byId, make} from "./dom.js";

const GAP = 6;
const LINE = 16;
const LETTER = 8;  // a letter's width in a head, and a little more, as names wrap early
const BESIDE = 1;  // rows and columns kept beyond the edge of the view
const TOGETHER = -2;  // the choice of what to show that has every picture of a cell side by side

/** One or two dimensions laid along rows or columns. @typedef {{name: string, of: number[], count: number}} Axis */

export class Explorer {
  /** @param {import("./gallery.js").Gallery} gallery @param {(place: import("./gallery.js").Place) => void} open */
  constructor(gallery, open) {
    this.gallery = gallery;
    this.open = open;
    this.dimensions = gallery.data.dimensions;
    this.axes = this.choices();
    this.fixed = gallery.coordinates(gallery.first());
    const own = gallery.data.own;
    const [rows, columns] = this.dimensions[own].values.length > 1 ? [0, own] : [own + 1, 0];
    this.rows = this.axes[rows];
    this.columns = this.axes[columns];
    this.paged = this.free().find(d => this.dimensions[d].values.length > 1 && d > own) ?? this.free()[0];
    this.active = [0, 0];
    this.part = -1;
    this.heads = 0;
    this.scroller = byId("explorer");
    this.canvas = byId("explorer-canvas");
    /** @type {Map<number, {line: HTMLElement, cells: Map<number, HTMLElement>}>} */
    this.lines = new Map();
    const size = byId("explorer-size");
    size.value = Math.min(Math.max((this.scroller.clientWidth - this.beside()) / this.columns.count - GAP, 72), 152);
    this.size = Number(size.value);
    this.listen();
    this.redraw();
  }

  /** Every dimension by itself, and the pairs that make one long side. @returns {Axis[]} */
  choices() {
    const own = this.gallery.data.own;
    const several = (/** @type {number} */ d) => this.dimensions[d].values.length > 1;
    const pairs = [[own - 1, own], [own + 1, own + 2]].filter(pair => pair.every(several));
    return [...this.dimensions.map((_, d) => [d]), ...pairs].map(of => ({
      name: of.map(d => this.dimensions[d].name).join(" and "), of,
      count: of.reduce((all, d) => all * this.dimensions[d].values.length, 1)}));
  }

  /** @returns {number[]} The dimensions that are neither rows nor columns. */
  free() { return this.dimensions.map((_, d) => d).filter(d => !this.rows.of.includes(d) && !this.columns.of.includes(d)); }

  /** Writes the place along an axis into coordinates. @param {number[]} into @param {Axis} axis @param {number} at */
  along(into, axis, at) {
    for (const d of [...axis.of].reverse()) {
      const many = this.dimensions[d].values.length;
      into[d] = at % many;
      at = Math.floor(at / many);
    }
    return into;
  }

  /** @param {number} row @param {number} column */
  place(row, column) {
    return this.gallery.place(this.along(this.along([...this.fixed], this.rows, row), this.columns, column));
  }

  /** Puts a heading's words into an element. @param {Axis} axis @param {number} at @param {HTMLElement} into */
  head(axis, at, into) {
    const values = axis.of.map(d => this.dimensions[d].values[this.along([], axis, at)[d]]);
    make("bdi", {text: values.map(value => value.label).join(", "), dir: "auto", parent: into});
    into.title = values.map(value => (value.text ?? value.label).slice(0, 600)).join(", ");
    const role = axis.of.length === 1 && values[0].role;
    if (role) make("span", {text: role, className: "role", parent: into});
  }

  listen() {
    byId("explorer-size").addEventListener("input", (/** @type {any} */ event) => {
      this.size = Number(event.target.value);
      this.redraw();
    });
    for (const side of /** @type {const} */ (["rows", "columns"])) {
      const select = byId(`explorer-${side}`);
      this.axes.forEach((axis, at) => make("option", {text: axis.name, value: at, parent: select}));
      select.addEventListener("change", () => this.turn(side, this.axes[select.value]));
    }
    byId("explorer-page").addEventListener("change", (/** @type {any} */ event) => {
      this.paged = Number(event.target.value);
      this.redraw();
    });
    const part = byId("explorer-part");
    const names = this.gallery.data.made.names ?? [];
    names.forEach((text, value) => make("option", {text, value, parent: part}));
    part.closest("label").hidden = !names.length;
    part.addEventListener("change", () => {
      this.part = Number(part.value);
      this.redraw();
    });
    let waiting = false;
    this.scroller.addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; this.draw(); });
    }, {passive: true});
    new ResizeObserver(() => this.width === this.beside() ? this.draw() : this.redraw()).observe(this.scroller);
    this.canvas.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => this.key(event));
    this.canvas.addEventListener("click", (/** @type {any} */ event) => {
      const cell = event.target.closest("[role=gridcell]");
      if (cell) this.enter(Number(cell.dataset.row), Number(cell.dataset.column));
    });
  }

  /** @param {"rows" | "columns"} side @param {Axis} axis */
  turn(side, axis) {
    const other = side === "rows" ? "columns" : "rows";
    const before = this[side];
    this[side] = axis;
    const apart = (/** @type {Axis} */ one) => !one.of.some(d => axis.of.includes(d));
    if (!apart(this[other])) this[other] = [before, ...this.axes].find(apart) ?? this[other];
    if (!this.free().includes(this.paged)) this.paged = this.free()[0];
    this.active = [0, 0];
    this.scroller.scrollTo(0, 0);
    this.redraw();
  }

  /** @param {number} row @param {number} column */
  enter(row, column) {
    this.active = [row, column];
    const place = this.place(row, column);
    if (this.gallery.slot(place) >= 0) this.open(place);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const [row, column] = this.active;
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.pitch()) - 1);
    /** @type {Record<string, [number, number]>} */
    const moves = {ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
                   PageUp: [row - page, column], PageDown: [row + page, column], Home: [event.ctrlKey ? 0 : row, 0],
                   End: [event.ctrlKey ? this.rows.count - 1 : row, this.columns.count - 1]};
    if (event.key === "Enter" || event.key === " ") this.enter(row, column);
    else if (moves[event.key]) this.go(moves[event.key]);
    else return;
    event.preventDefault();
  }

  /** Makes a cell the active one, brings it into view and gives it the focus. @param {number[]} at */
  go([row, column]) {
    const old = this.cell(this.active);
    if (old) old.tabIndex = -1;
    this.active = [Math.min(Math.max(row, 0), this.rows.count - 1), Math.min(Math.max(column, 0), this.columns.count - 1)];
    const pitch = this.pitch();
    const [top, left] = [this.active[0] * pitch, this.active[1] * pitch];
    const view = this.scroller;
    view.scrollTop = Math.max(Math.min(view.scrollTop, top), top + pitch + this.over() - view.clientHeight);
    view.scrollLeft = Math.max(Math.min(view.scrollLeft, left), left + pitch + this.beside() - view.clientWidth);
    this.draw();
    const cell = this.cell(this.active);
    if (!cell) return;
    cell.tabIndex = 0;
    cell.focus({preventScroll: true});
  }

  /** Gives the focus to the cell of a place, on whichever page it is. @param {import("./gallery.js").Place} place */
  show(place) {
    const coordinates = this.gallery.coordinates(place);
    for (const d of this.free()) this.fixed[d] = coordinates[d];
    const at = (/** @type {Axis} */ axis) => axis.of.reduce((sum, d) => sum * this.dimensions[d].values.length + coordinates[d], 0);
    this.redraw();
    this.go([at(this.rows), at(this.columns)]);
  }

  /** The next place along rows or columns that has a picture, or null. @param {import("./gallery.js").Place} from
      @param {"rows" | "columns"} side @param {number} step @returns {import("./gallery.js").Place | null} */
  neighbour(from, side, step) {
    const axis = this[side];
    const coordinates = this.gallery.coordinates(from);
    let at = axis.of.reduce((sum, d) => sum * this.dimensions[d].values.length + coordinates[d], 0) + step;
    for (; at >= 0 && at < axis.count; at += step) {
      const place = this.gallery.place(this.along([...coordinates], axis, at));
      if (this.gallery.slot(place) >= 0) return place;
    }
    return null;
  }

  pitch() { return this.size + GAP; }

  beside() { return Math.min(this.scroller.clientWidth > 600 ? 150 : 92, this.scroller.clientWidth / 2); }

  over() { return this.heads; }

  /** How many lines the columns' heads take: those of the name, at most three, and one for a role. */
  headLines() {
    const values = this.columns.of.map(d => this.dimensions[d].values);
    const name = (/** @type {number} */ letters) => Math.min(3, Math.ceil(letters * LETTER / this.size));
    if (values.length === 1)
      return Math.max(2, ...values[0].map(value => name(value.label.length) + (value.role ? 1 : 0)));
    return Math.max(2, name(values.reduce((sum, all) => sum + 2 + Math.max(...all.map(value => value.label.length)), 0)));
  }

  /** @param {number[]} at */
  cell([row, column]) { return this.lines.get(row)?.cells.get(column); }

  /** Draws everything anew, controls included. */
  redraw() {
    byId("explorer-rows").value = this.axes.indexOf(this.rows);
    byId("explorer-columns").value = this.axes.indexOf(this.columns);
    this.controls();
    this.width = this.beside();
    this.heads = 12 + LINE * this.headLines();
    this.lines.clear();
    this.canvas.replaceChildren();
    this.canvas.style.width = `${this.beside() + this.columns.count * this.pitch()}px`;
    this.canvas.style.height = `${this.over() + this.rows.count * this.pitch()}px`;
    this.scroller.style.setProperty("--over", `${this.over()}px`);
    this.scroller.style.setProperty("--pitch", `${this.pitch()}px`);
    this.scroller.style.setProperty("--bar", `${this.scroller.offsetHeight - this.scroller.clientHeight}px`);
    this.canvas.style.setProperty("--cell", `${this.size}px`);
    this.canvas.style.setProperty("--head-lines", String(Math.min(3, this.headLines())));
    this.canvas.style.setProperty("--lines", String(Math.floor(this.size / 16)));
    this.canvas.setAttribute("aria-rowcount", String(this.rows.count + 1));
    this.canvas.setAttribute("aria-colcount", String(this.columns.count + 1));
    this.top = make("div", {role: "row", className: "heads", "aria-rowindex": 1, parent: this.canvas});
    this.top.style.height = `${this.over()}px`;
    /** @type {Map<number, HTMLElement>} */
    this.tops = new Map();
    const corner = make("div", {role: "columnheader", className: "corner", "aria-colindex": 1, parent: this.top,
                                text: `${this.rows.name} by ${this.columns.name}`});
    corner.style.width = `${this.beside()}px`;
    this.draw();
    const seen = Math.round((this.scroller.clientHeight - this.over()) / this.pitch());
    byId("explorer-more").textContent = seen < this.rows.count ? `${seen} of ${this.rows.count} rows are in view; scroll in the grid for the others.` : "";
  }

  /** Selects for the dimensions that are neither rows nor columns; the one that is the page has buttons as well. */
  controls() {
    const free = this.free().filter(d => this.dimensions[d].values.length > 1);
    const page = byId("explorer-page");
    page.replaceChildren(...free.map(d => make("option", {text: this.dimensions[d].name, value: d})));
    page.value = this.paged;
    page.closest("label").hidden = free.length < 1;
    const place = byId("explorer-fixed");
    place.replaceChildren();
    for (const d of free) {
      const values = this.dimensions[d].values;
      const holder = make("span", {className: "stepper", parent: place});
      const turn = (/** @type {number} */ step, /** @type {string} */ text, /** @type {string} */ said) => {
        const button = make("button", {type: "button", text, "aria-label": `${said} ${this.dimensions[d].name}`, parent: holder});
        button.addEventListener("click", () => {
          select.selectedIndex = (select.selectedIndex + step + values.length) % values.length;
          select.dispatchEvent(new Event("change"));
        });
      };
      if (d === this.paged) turn(-1, "‹", "Previous");
      const label = make("label", {text: `${this.dimensions[d].name} `, parent: holder});
      const select = make("select", {parent: label, id: `explorer-fixed-${d}`});
      values.forEach((value, at) => make("option", {text: value.label, value: at, parent: select}));
      select.selectedIndex = this.fixed[d];
      if (d === this.paged) turn(1, "›", "Next");
      select.addEventListener("change", () => { this.fixed[d] = select.selectedIndex; this.refill(); });
    }
  }

  /** Draws the cells anew where rows and columns stay what they are. */
  refill() {
    for (const {line} of this.lines.values()) line.remove();
    this.lines.clear();
    this.draw();
  }

  /** Brings the document up to the view: cells that left it go, those that came into it are made. */
  draw() {
    const {scrollTop, scrollLeft, clientWidth, clientHeight} = this.scroller;
    const pitch = this.pitch();
    const range = (/** @type {number} */ from, /** @type {number} */ length, /** @type {number} */ count) =>
      [Math.max(0, Math.floor(from / pitch) - BESIDE), Math.min(count, Math.ceil((from + length) / pitch) + BESIDE)];
    const [top, bottom] = range(scrollTop, clientHeight - this.over(), this.rows.count);
    const [left, right] = range(scrollLeft, clientWidth - this.beside(), this.columns.count);
    const leave = (/** @type {Map<number, any>} */ held, /** @type {number} */ from, /** @type {number} */ to) => {
      for (const [at, one] of held) if (at < from || at >= to) { (one.line ?? one).remove(); held.delete(at); }
    };
    leave(this.lines, top, bottom);
    leave(/** @type {any} */ (this.tops), left, right);
    for (let column = left; column < right; column++) if (!this.tops?.has(column)) this.addHead(column);
    for (let row = top; row < bottom; row++) {
      const line = this.lines.get(row) ?? this.addLine(row);
      leave(line.cells, left, right);
      for (let column = left; column < right; column++) if (!line.cells.has(column)) this.addCell(line, row, column);
    }
    // Tab must be able to reach the grid wherever it has been scrolled to.
    if (!this.cell(this.active) && this.lines.size && left < right) {
      this.active = [Math.min(top + BESIDE, bottom - 1), Math.min(left + BESIDE, right - 1)];
      const cell = this.cell(this.active);
      if (cell) cell.tabIndex = 0;
    }
  }

  /** @param {number} column */
  addHead(column) {
    const head = make("div", {role: "columnheader", className: "head", "aria-colindex": column + 2, parent: this.top});
    head.style.left = `${this.beside() + column * this.pitch()}px`;
    this.head(this.columns, column, head);
    this.tops?.set(column, head);
  }

  /** @param {number} row */
  addLine(row) {
    const line = make("div", {role: "row", className: "line-of-cells", "aria-rowindex": row + 2, parent: this.canvas});
    line.style.top = `${this.over() + row * this.pitch()}px`;
    const head = make("div", {role: "rowheader", className: "side", "aria-colindex": 1, parent: line});
    head.style.width = `${this.beside()}px`;
    this.head(this.rows, row, head);
    const made = {line, cells: new Map()};
    this.lines.set(row, made);
    return made;
  }

  /** @param {{line: HTMLElement, cells: Map<number, HTMLElement>}} line @param {number} row @param {number} column */
  addCell(line, row, column) {
    const place = this.place(row, column);
    const slot = this.gallery.slot(place);
    const cell = make("div", {role: "gridcell", "aria-colindex": column + 2, parent: line.line,
                              className: this.gallery.picked(place) ? "cell pick" : "cell"});
    Object.assign(cell.dataset, {row, column});
    cell.tabIndex = row === this.active[0] && column === this.active[1] ? 0 : -1;
    cell.style.left = `${this.beside() + column * this.pitch()}px`;
    const parts = this.gallery.made(slot);
    const part = parts.find(({name}) => name === this.part);
    line.cells.set(column, cell);
    if (this.part === TOGETHER && parts.length) return this.mosaic(cell, [...parts, this.gallery.itself(slot)], place);
    const source = this.part < 0 ? this.gallery.source(slot) : part && !part.why ? this.gallery.source(part.at) : "";
    const alt = `${part ? `${part.caption} of ` : ""}${this.gallery.described(place)}`;
    if (source) make("img", {src: source, alt, title: alt, decoding: "async", draggable: false, parent: cell});
    else make("span", {className: "hole", parent: cell, text: place.c < 0 ? "no such candidate"
      : this.part < 0 || slot < 0 ? this.gallery.why(slot) : part?.why ?? "none"});
  }

  /** What a picture was made of, and itself last, side by side in a cell.
      @param {HTMLElement} cell @param {import("./gallery.js").Part[]} parts @param {import("./gallery.js").Place} place */
  mosaic(cell, parts, place) {
    const frame = make("div", {className: "mosaic", parent: cell});
    frame.style.setProperty("--n", String(Math.ceil(Math.sqrt(parts.length))));
    for (const {caption, at, why} of parts) {
      const alt = `${caption} of ${this.gallery.described(place)}`;
      if (why) make("span", {className: "hole", text: why, title: `${caption}: ${why}`, parent: frame});
      else make("img", {src: this.gallery.source(at), alt, title: alt, decoding: "async", draggable: false, parent: frame});
    }
  }
}
