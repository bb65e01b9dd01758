// What runs when the page is open: first the pictures, then the figures, so that something can be seen at once.
import {byId, make, painted, read, unpack} from "./dom.js";
import {Explorer} from "./explorer.js";
import {drawFigures} from "./figures.js";
import {Gallery} from "./gallery.js";
import {Lightbox} from "./lightbox.js";

document.documentElement.dataset.scripted = "";  // hides the note for viewers that block scripts

/** Hovering over a cell of the heatmap shows its picture, at the explorer's prompt and seed; a click opens it.
    @param {Gallery} gallery @param {Explorer} explorer @param {Lightbox} lightbox */
const peekFrom = (gallery, explorer, lightbox) => {
  const plot = document.querySelector("[data-figure=heatmap]");
  const peek = byId("peek");
  if (!(plot instanceof HTMLElement)) return;
  const [image, words] = [peek.querySelector("img"), peek.querySelector("p")];
  const [p, s] = [gallery.data.own + 1, gallery.data.own + 2];
  const placed = (/** @type {any} */ event) => ({c: event.points[0].y, g: event.points[0].x, p: explorer.fixed[p], s: explorer.fixed[s]});
  const on = (/** @type {string} */ what, /** @type {(event: any) => void} */ then) => /** @type {any} */ (plot).on(what, then);
  on("plotly_hover", event => {
    const place = placed(event);
    const slot = gallery.slot(place);
    if (slot === undefined || !Number.isInteger(place.c) || !Number.isInteger(place.g)) return;
    image.hidden = !gallery.source(slot);
    Object.assign(image, {src: gallery.source(slot), alt: gallery.described(place)});
    words.textContent = `${image.hidden ? `${gallery.why(slot)}; ` : ""}seed ${gallery.seed(place.s)}, ${gallery.prompt(place.p).slice(0, 120)}`;
    peek.hidden = false;
    const {clientX, clientY} = event.event;
    peek.style.left = `${Math.max(8, Math.min(clientX + 24, innerWidth - peek.offsetWidth - 8))}px`;
    peek.style.top = `${clientY + 24 + peek.offsetHeight < innerHeight ? clientY + 24 : Math.max(8, clientY - 24 - peek.offsetHeight)}px`;
  });
  on("plotly_unhover", () => { peek.hidden = true; });
  on("plotly_click", event => {
    const place = placed(event);
    peek.hidden = true;
    if (gallery.slot(place) >= 0) lightbox.open(place);
  });
};

/** The table lies in the page, so that a page that was mailed without its folder still has it. */
const offerTable = () => {
  if (!byId("table")?.textContent) return;  // none, or too large to lie in the page
  byId("table-offer").hidden = false;
  byId("table-beside").hidden = true;
  byId("table-download").addEventListener("click", async (/** @type {any} */ event) => {
    const href = URL.createObjectURL(new Blob([await unpack("table")], {type: "text/csv"}));
    make("a", {href, download: event.target.dataset.name}).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
  });
};

const start = async () => {
  offerTable();
  await painted();
  if (byId("explorer")) {
    const thumbnails = read("thumbnails");
    const gallery = new Gallery(JSON.parse(await unpack("explorer-data")), thumbnails);
    for (const text of thumbnails.notes) make("p", {text, className: "reading", parent: byId("explorer-notes")});
    const lightbox = new Lightbox(gallery);
    const explorer = new Explorer(gallery, place => lightbox.open(place));
    lightbox.explorer = explorer;
    await painted();
    performance.mark("pictures");
    await drawFigures();
    peekFrom(gallery, explorer, lightbox);
  } else await drawFigures();
  performance.mark("figures");
  document.documentElement.dataset.ready = "";
};
start();
