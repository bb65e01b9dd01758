// Which pictures there are and where: places in four sizes (candidate, guidance, prompt, seed), thumbnails, captions.

/** @typedef {{label: string, text?: string, role?: string}} Value */
/** @typedef {{name: string, values: Value[]}} Dimension */
/** @typedef {{label: string, role: string, at: number[], command: string}} Candidate */
/** A picture that another was made of: which `name`, its words, its place or -1, and why it is not here. @typedef {{name: number, caption: string, at: number, why: string}} Part */
/** A place in the run. @typedef {{c: number, g: number, p: number, s: number}} Place */
/** What explorer.py says of the run. `own` dimensions are those of the candidates, before guidance, prompt and seed; `at` to `says` have
    an entry per picture, and `path` and `link` further ones for the pictures that these were made of (`made`, which may be empty). @typedef {{dimensions: Dimension[], own: number, sizes: number[], pick: [number, number] | null,
    candidates: Candidate[], at: number[], path: string[], link: string[], remade: string, flaws: Record<string, string>, made: Made,
    values: string[], captions: number, says: string[][]}} Data */
/** What images were made of: captions, and for every picture pairs of a caption's place and that of a thumbnail, or -1 and the place of a
    reason. @typedef {{names: string[], reasons: string[], of: number[][][]}} Made */
/** @typedef {{encoded: string[], why: Record<string, string>, notes: string[], lossless: boolean}} Thumbnails */

export class Gallery {
  /** @param {Data} data @param {Thumbnails} thumbnails */
  constructor(data, thumbnails) {
    this.data = data;
    this.thumbnails = thumbnails;
    this.slots = new Int32Array(data.sizes.reduce((all, size) => all * size, 1)).fill(-1);
    data.at.forEach((place, slot) => { this.slots[place] = slot; });
    this.candidates = new Map(data.candidates.map((candidate, c) => [candidate.at.join(), c]));
  }

  /** @param {Place} place @returns {number} The picture at a place, or -1. */
  slot({c, g, p, s}) {
    const [, scales, prompts, seeds] = this.data.sizes;
    return c < 0 ? -1 : this.slots[((c * scales + g) * prompts + p) * seeds + s];
  }

  /** The place of one value in each dimension; c is -1 where no candidate is. @param {number[]} coordinates @returns {Place} */
  place(coordinates) {
    const own = this.data.own;
    const [g, p, s] = coordinates.slice(own);
    return {c: this.candidates.get(coordinates.slice(0, own).join()) ?? -1, g, p, s};
  }

  /** @returns {Place} The place of the pick for the first prompt and seed. */
  first() {
    const [c, g] = this.data.pick ?? [0, 0];
    return {c, g, p: 0, s: 0};
  }

  /** @param {Place} place @returns {number[]} */
  coordinates({c, g, p, s}) { return [...this.data.candidates[c].at, g, p, s]; }

  /** @param {number} slot @returns {string} The address of a thumbnail, or "". */
  source(slot) {
    const encoded = slot < 0 ? "" : this.thumbnails.encoded[slot];
    return encoded ? `data:image/webp;base64,${encoded}` : "";
  }

  /** What a picture was made of, in order. @param {number} slot @returns {Part[]} */
  made(slot) {
    const {names, reasons, of} = this.data.made;
    return (names && slot >= 0 ? of[slot] : []).map(([name, at, reason]) => (
      {name, caption: names[name], at, why: at < 0 ? reasons[reason] : this.source(at) ? "" : this.why(at)}));
  }

  /** The picture itself, at the end of what it was made of. @param {number} slot @returns {Part} */
  itself(slot) { return {name: -1, caption: "this picture", at: slot, why: this.source(slot) ? "" : this.why(slot)}; }

  /** @param {number} slot @returns {string} Why a place shows no picture. */
  why(slot) {
    return slot < 0 ? "not sampled" : this.thumbnails.why[slot] || "left out of this page";
  }

  /** @param {Place} place @returns {string} */
  name({c, g}) {
    return c < 0 ? "no such candidate" : `${this.data.candidates[c].label}, CFG ${this.scale(g)}`;
  }

  /** @param {number} g @returns {string} */
  scale(g) { return this.data.dimensions[this.data.own].values[g].label.replace("CFG ", ""); }

  /** @param {number} p @returns {string} The whole prompt. */
  prompt(p) {
    const value = this.data.dimensions[this.data.own + 1].values[p];
    return value.text ?? value.label;
  }

  /** @param {number} s @returns {string} */
  seed(s) { return this.data.dimensions[this.data.own + 2].values[s].label.replace("seed ", ""); }

  /** @param {number} slot @returns {string} The values that matter most, in words. */
  caption(slot) {
    if (slot < 0) return "";
    const said = this.data.values.slice(0, this.data.captions)
      .map((title, at) => this.data.says[at][slot] && `${title} ${this.data.says[at][slot]}`);
    return [this.data.flaws[slot] && `no sound picture: ${this.data.flaws[slot]}`, ...said].filter(Boolean).join(", ");
  }

  /** @param {Place} place @returns {string} */
  described(place) {
    return `${this.name(place)}, seed ${this.seed(place.s)}: ${this.caption(this.slot(place)) || "no values"}`;
  }

  /** @param {Place} place @returns {boolean} */
  picked({c, g}) { return this.data.pick !== null && c === this.data.pick[0] && g === this.data.pick[1]; }
}
