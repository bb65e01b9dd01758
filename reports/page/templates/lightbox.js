// The lightbox: one picture large, beside, over or subtracted from any other at the same prompt and seed.
import {make} from "./dom.js";

const STRONGER = 4;

/** @param {HTMLImageElement} image @param {number} width @param {number} height @returns {Uint8ClampedArray} */
const pixels = (image, width, height) => {
  const context = /** @type {CanvasRenderingContext2D} */ (make("canvas", {width, height}).getContext("2d", {willReadFrequently: true}));
  context.drawImage(image, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
};

export class Lightbox {
  /** @param {import("./gallery.js").Gallery} gallery */
  constructor(gallery) {
    this.gallery = gallery;
    /** @type {import("./explorer.js").Explorer | null} where the neighbours are found and the focus goes back to */
    this.explorer = null;
    this.place = gallery.first();
    /** @type {Record<string, any>} the elements of the dialog, by the last part of their ids */
    this.of = Object.fromEntries([...document.querySelectorAll("[id^=viewer-]")].map(one => [one.id.slice(7), one]));
    const {candidates, sizes, pick} = gallery.data;
    candidates.forEach((one, at) => make("option", {text: one.label + (one.role ? ` (${one.role})` : ""), value: at, parent: this.of.other}));
    make("option", {text: "the same CFG", value: -1, parent: this.of.scale});
    for (let g = 0; g < sizes[1]; g++) make("option", {text: `CFG ${gallery.scale(g)}`, value: g, parent: this.of.scale});
    this.wanted = pick ? pick[0] : 0;
    for (const select of [this.of.other, this.of.scale, this.of.view]) select.addEventListener("change", () => this.draw());
    this.of.other.addEventListener("change", () => { this.wanted = Number(this.of.other.value); });
    this.of.slide.addEventListener("input", () => this.cut());
    this.of.dialog.addEventListener("close", () => this.explorer?.show(this.place));
    this.of.close.addEventListener("click", () => this.of.dialog.close());
    /** @type {Record<string, ["rows" | "columns", number]>} */
    this.ways = {ArrowLeft: ["columns", -1], ArrowRight: ["columns", 1], ArrowUp: ["rows", -1], ArrowDown: ["rows", 1]};
    for (const button of this.of.dialog.querySelectorAll("[data-way]"))
      button.addEventListener("click", () => this.move(button.dataset.way));
    this.of.dialog.addEventListener("keydown", (/** @type {any} */ event) => {
      if (!this.ways[event.key] || event.target.closest("select, input, pre, .scroll")) return;
      event.preventDefault();
      this.move(event.key);
    });
    const drag = (/** @type {PointerEvent} */ event) => {
      if (!event.buttons || this.of.view.value !== "slider") return;
      const box = this.of.second.getBoundingClientRect();
      this.of.slide.value = 100 * (event.clientX - box.left) / box.width;
      this.cut();
    };
    for (const what of ["pointerdown", "pointermove"]) this.of.stage.addEventListener(what, drag);
  }

  /** @param {import("./gallery.js").Place} place */
  open(place) {
    this.place = place;
    // Compared with itself a picture says nothing: then the first candidate that is another.
    this.of.other.value = this.wanted !== place.c ? this.wanted : this.gallery.data.candidates.findIndex((_, c) => c !== place.c);
    if (this.of.other.value === "") this.of.other.value = place.c;
    this.draw();
    if (!this.of.dialog.open) this.of.dialog.showModal();
    this.of.stage.focus();
  }

  /** @param {string} key */
  move(key) {
    const next = this.explorer?.neighbour(this.place, ...this.ways[key]);
    if (next) this.open(next);
  }

  /** @returns {import("./gallery.js").Place} What the picture is compared with. */
  against() {
    const g = Number(this.of.scale.value);
    return {...this.place, c: Number(this.of.other.value), g: g < 0 ? this.place.g : g};
  }

  async draw() {
    const {gallery, place} = this;
    const other = this.against();
    const [slot, beside] = [gallery.slot(place), gallery.slot(other)];
    this.of.title.textContent = `${gallery.name(place)}, seed ${gallery.seed(place.s)}`;
    this.of.prompt.textContent = gallery.prompt(place.p);
    const both = gallery.source(slot) && gallery.source(beside);
    this.of.stage.dataset.view = both ? this.of.view.value : "alone";
    this.of.slide.closest("label").hidden = !both || this.of.view.value !== "slider";
    for (const [image, at, of] of [[this.of.first, slot, place], [this.of.second, beside, other]]) {
      image.hidden = !gallery.source(at);
      if (image.hidden) image.removeAttribute("src");
      else Object.assign(image, {src: gallery.source(at), alt: gallery.described(of)});
    }
    this.of.said.textContent = gallery.source(slot) ? both ? "" : `Nothing to compare with: ${gallery.name(other)} is ${gallery.why(beside)}.`
      : `The picture is not on this page: ${gallery.why(slot)}.`;
    this.made(this.of.made, slot);
    this.made(this.of.others, both ? beside : -1);
    this.of["others-title"].textContent = `What ${gallery.name(other)} was made of`;
    this.table(slot, beside, other);
    this.links([[slot, gallery.name(place)], [beside, gallery.name(other)]]);
    const command = gallery.data.candidates[place.c].command;
    this.of.command.textContent = command || "not known: the run does not say which file declared its suite";
    this.of.remade.textContent = !command ? "" : `It makes this picture, bit for bit on the same machine, as ${gallery.data.remade}/`
      + `${gallery.data.path[slot]} (prompt and seed are in the name), with the candidate's others.`;
    this.cut();
    if (both && this.of.view.value === "difference") await this.subtract(other);
  }

  /** The pictures that one was made of, and itself last; each leads to its file. @param {HTMLElement} list @param {number} slot */
  made(list, slot) {
    const parts = this.gallery.made(slot);
    if (list.parentElement) list.parentElement.hidden = !parts.length;
    const all = parts.length ? [...parts, this.gallery.itself(slot)] : [];
    list.replaceChildren(...all.map(({caption, at, why}) => {
      const item = make("li");
      const href = at < 0 ? "" : this.gallery.data.link[at];
      const frame = href ? make("a", {href, target: "_blank", rel: "noreferrer", parent: item}) : item;
      if (why) make("span", {text: why, className: "hole", parent: frame});
      else make("img", {src: this.gallery.source(at), alt: "", decoding: "async", parent: frame});
      make("bdi", {text: caption, dir: "auto", parent: frame});
      return item;
    }));
  }

  /** What lies left of the slider is this picture, right of it the other. */
  cut() {
    const at = Number(this.of.slide.value);
    this.of.stage.style.setProperty("--at", `${at}%`);
    this.of.slide.setAttribute("aria-valuetext", `${at} % of this picture`);
  }

  /** @param {import("./gallery.js").Place} other */
  async subtract(other) {
    const place = this.place;
    await Promise.all([this.of.first.decode(), this.of.second.decode()]);
    if (place !== this.place) return;  // another picture was opened meanwhile
    const [width, height] = [this.of.first.naturalWidth, this.of.first.naturalHeight];
    const [one, two] = [pixels(this.of.first, width, height), pixels(this.of.second, width, height)];
    Object.assign(this.of.difference, {width, height});
    const context = this.of.difference.getContext("2d");
    const made = context.createImageData(width, height);
    let [largest, sum] = [0, 0];
    for (let at = 0; at < one.length; at++) {
      const apart = Math.abs(one[at] - two[at]);
      made.data[at] = at % 4 === 3 ? 255 : STRONGER * apart;
      largest = Math.max(largest, apart);
      sum += apart;
    }
    context.putImageData(made, 0, 0);
    this.of.said.textContent = `Difference from ${this.gallery.name(other)}, ${STRONGER} times as strong: at most ${largest} of 255 levels, `
      + `${(sum / (width * height * 3)).toFixed(2)} on average`
      + (this.gallery.thumbnails.lossless ? "." : " (of the compressed thumbnails, so small differences may come from the compression).");
  }

  /** @param {number} slot @param {number} beside @param {import("./gallery.js").Place} other */
  table(slot, beside, other) {
    const {values, says} = this.gallery.data;
    const head = make("tr");
    for (const text of ["Value", "This picture", this.gallery.name(other)]) make("th", {text, scope: "col", parent: head});
    const rows = values.map((title, at) => {
      const row = make("tr");
      make("th", {text: title, scope: "row", parent: row});
      for (const place of [slot, beside]) make("td", {text: (place >= 0 && says[at][place]) || "not measured", parent: row});
      return row;
    });
    this.of.values.replaceChildren(head, ...rows);
  }

  /** @param {[number, string][]} pictures */
  links(pictures) {
    this.of.full.replaceChildren();
    for (const [slot, name] of pictures) {
      const href = slot < 0 ? "" : this.gallery.data.link[slot];
      if (href) make("a", {text: `Full image of ${name}`, href, target: "_blank", rel: "noreferrer", parent: this.of.full});
      else if (slot >= 0) make("span", {text: `The full image of ${name} was not beside this page when it was made.`, parent: this.of.full});
    }
  }
}
