// Elements and embedded data, for the other modules. Whatever comes from a run is set as text, never as markup.

/**
 * A new element with text and properties, appended to a parent if there is one.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {{text?: string, parent?: Element | null, [property: string]: unknown}} [given]
 * @returns {HTMLElementTagNameMap[T]}
 */
export const make = (tag, {text, parent, ...properties} = {}) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) Object.assign(element, {[name]: value});
    else element.setAttribute(name, String(value));
  }
  if (parent) parent.append(element);
  return element;
};

/** @param {string} id @returns {any} The element of that id, which the template holds. */
export const byId = id => document.getElementById(id);

/** @param {string} id @returns {any} The JSON in a script element. */
export const read = id => JSON.parse(byId(id).textContent);

/** @param {string} id @returns {Promise<string>} The text that lies gzipped and in base64 in a script element. */
export const unpack = async id => {
  const bytes = Uint8Array.from(atob(byId(id).textContent), character => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};

/** @param {string} name @returns {string} A colour of the style sheet, as it is in the reader's light or dark theme. */
export const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Resolves once the browser has painted what there is. */
export const painted = () => new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)));
