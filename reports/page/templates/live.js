// Keeps the page of a run that goes on up to date: it is loaded again when its reader is not in the middle of something, and
// afterwards everything stands where it stood. The finished page does not have this script.

const banner = /** @type {HTMLElement} */ (document.getElementById("live"));
const hold = /** @type {HTMLInputElement} */ (document.getElementById("live-hold"));
const KEY = `sweetspot live ${location.pathname}`;
const CALM = 3;         // seconds without a key, a wheel or a pointer before the page may go
const CHOOSING = 20;    // the same while a list of choices has the focus, for it may be open
const LONGEST = 60;     // seconds between two loads
const LATE = 600;       // seconds after which the run has probably been stopped
const opened = Date.now();
let touched = 0;

/** @returns {any} What was kept when the page was left, or null. */
const kept = () => {
  try { return JSON.parse(sessionStorage.getItem(KEY) ?? "null"); } catch { return null; }
};

/** @returns {any[]} Everything that a reader can set, in the order in which it must be set again. */
const controls = () => [...document.querySelectorAll("main select, main input, #live-hold")].filter(one => !one.closest("dialog"));

/** A name that is the same after new pictures came in. @param {any} one @param {number} at */
const nameOf = (one, at) => one.id || `${one.closest("figure")?.id ?? ""} ${at}`;

/** @param {any} one */
const valueOf = one => one.type === "checkbox" ? one.checked : one.tagName === "SELECT" ? one.selectedOptions[0]?.label : one.value;

const boxes = () => [...document.querySelectorAll(".explorer, main > section > .scroll")];

const keep = () => {
  const heads = [...document.querySelectorAll("h1, h2")];
  const head = heads.filter(one => one.getBoundingClientRect().top < innerHeight / 3).at(-1) ?? heads[0];
  const state = {
    head: head.id, off: head.id ? head.getBoundingClientRect().top : scrollY,
    controls: Object.fromEntries(controls().map((one, at) => [nameOf(one, at), valueOf(one)])),
    open: [...document.querySelectorAll("details")].map(one => one.open), focus: document.activeElement?.id,
    boxes: Object.fromEntries(boxes().map((box, at) => [nameOf(box, at), [box.scrollTop, box.scrollLeft]]))};
  try { sessionStorage.setItem(KEY, JSON.stringify(state)); } catch { /* then the page begins at its top */ }
};

/** Sets one control as it was, if it still has that choice. @param {any} one @param {any} was */
const set = (one, was) => {
  if (was === undefined || valueOf(one) === was) return;
  if (one.type === "checkbox") one.checked = was;
  else if (one.tagName === "SELECT") {
    const at = [...one.options].findIndex(option => option.label === was);
    if (at < 0) return;
    one.selectedIndex = at;
  } else one.value = was;
  for (const what of ["input", "change"]) one.dispatchEvent(new Event(what, {bubbles: true}));
};

const restore = () => {
  const was = kept();
  if (!was) return;
  document.documentElement.style.scrollBehavior = "auto";
  const done = new Set();
  // Setting one control can make others anew, such as those of the dimensions that are neither rows nor columns.
  for (let next; (next = controls().map((one, at) => [one, nameOf(one, at)]).find(([, name]) => !done.has(name)));) {
    done.add(next[1]);
    set(next[0], was.controls[next[1]]);
  }
  document.querySelectorAll("details").forEach((one, at) => { one.open = was.open[at] ?? one.open; });
  boxes().forEach((box, at) => {
    const place = was.boxes[nameOf(box, at)];
    if (place) [box.scrollTop, box.scrollLeft] = place;
  });
  if (was.focus) document.getElementById(was.focus)?.focus({preventScroll: true});
  const head = was.head && document.getElementById(was.head);
  scrollTo(0, head ? head.getBoundingClientRect().top + scrollY - was.off : was.head ? scrollY : was.off);
};

const age = () => Math.max(0, (Date.now() - Date.parse(banner.dataset.written ?? "")) / 1000);

/** @returns {boolean} Whether the reader would be disturbed: a picture is open, something is being chosen or marked, or the
    pictures are being gone through by keys. */
const busy = () => {
  const focused = document.activeElement;
  return hold.checked || document.hidden || Boolean(document.querySelector("dialog[open]")) || !(getSelection()?.isCollapsed ?? true)
    || Boolean(focused?.matches(".cell:focus-visible"))
    || Date.now() - touched < 1000 * (focused?.matches("select") ? CHOOSING : CALM);
};

const tell = () => {
  const seconds = Math.round(age());
  const said = seconds < 100 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`;
  /** @type {HTMLElement} */ (document.getElementById("live-age")).textContent = `, ${said}`;
  if (seconds > LATE) /** @type {HTMLElement} */ (document.getElementById("live-late")).textContent =
    "Nothing new for more than ten minutes: the run was probably stopped, or it is timing its candidates.";
};

for (const what of ["pointerdown", "pointermove", "keydown", "wheel", "touchmove"])
  addEventListener(what, () => { touched = Date.now(); }, {passive: true, capture: true});
history.scrollRestoration = "manual";

const ready = () => {
  restore();
  setInterval(() => {
    tell();
    const [every, here] = [Number(banner.dataset.every), (Date.now() - opened) / 1000];
    // By its own clock too: that of the machine on which the run goes on may be another.
    const due = age() >= every || here >= every;
    if (!due || here < Math.min(LONGEST, Math.max(CALM, age() / 10)) || busy()) return;
    keep();
    location.reload();
  }, 500);
  document.documentElement.dataset.live = "";
};
tell();
if (document.documentElement.dataset.ready !== undefined) ready();
else new MutationObserver((_, watching) => { watching.disconnect(); ready(); })
  .observe(document.documentElement, {attributes: true, attributeFilter: ["data-ready"]});
