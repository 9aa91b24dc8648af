// Building elements. Text only ever becomes text: nothing here, and nothing on this page, parses
// HTML, and the page's Content-Security-Policy would not let it.

/**
 * An element.
 * @param {string} spec Tag and classes, as in "p.quiet.small".
 * @param {object} props Attributes; "on…" are listeners, "text" is its text, "data" its dataset.
 * @param {...(Node|string|null|false)} children
 */
export function h(spec, props = {}, ...children) {
  const [tag, ...classes] = spec.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== false));
  return element;
}

export const $ = (id) => document.getElementById(id);

const ICONS = {
  menu: "M3 5.5h14M3 10h14M3 14.5h9",
  close: "M5 5l10 10M15 5 5 15",
  send: "M10 16V4M4.5 9.5 10 4l5.5 5.5",
  stop: "M6 6h8v8H6z",
  sun: "M10 6.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7zM10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M15.7 4.3l-1.1 1.1M5.4 14.6l-1.1 1.1",
  moon: "M16 11.6A6.5 6.5 0 0 1 8.4 4a6.5 6.5 0 1 0 7.6 7.6z",
  auto: "M10 3a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM10 3v14M13 4v12",
  help: "M7.5 7.5a2.5 2.5 0 1 1 3.6 2.2c-.7.4-1.1.8-1.1 1.8M10 14.4v.1",
  key: "M12.5 3.5a4 4 0 1 1-2.7 7L4 16.3V17h3v-2h2v-2h1.5M13.5 7v.1",
  pencil: "M4 16l.8-3.4L13.2 4.2a1.4 1.4 0 0 1 2 0l.6.6a1.4 1.4 0 0 1 0 2L7.4 15.2z",
  bin: "M4 6h12M8 6V4h4v2M5.5 6l.7 10h7.6l.7-10M8.5 9v4M11.5 9v4",
  check: "M4.5 10.5 8.5 14.5 15.5 6",
  cross: "M6 6l8 8M14 6l-8 8",
  hand: "M7 10V5.2a1.1 1.1 0 0 1 2.2 0V9V4.1a1.1 1.1 0 0 1 2.2 0V9V5.2a1.1 1.1 0 0 1 2.2 0v6.3c0 3-1.7 5-4.3 5-2 0-3-.9-4-2.6L3.7 11a1.1 1.1 0 0 1 1.8-1.2L7 11.6",
  book: "M4 4.5c2-.8 4-.8 6 .5 2-1.3 4-1.3 6-.5v11c-2-.8-4-.8-6 .5-2-1.3-4-1.3-6-.5zM10 5v11",
  copy: "M7.5 7.5h8v8h-8zM12.5 7.5v-3h-8v8h3",
  chevron: "M8 5.5l4.5 4.5L8 14.5",
  down: "M10 4v12M4.5 10.5 10 16l5.5-5.5",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({
    viewBox: "0 0 20 20", width: 18, height: 18, fill: "none", stroke: "currentColor",
    "stroke-width": 1.5, "stroke-linecap": "round", "stroke-linejoin": "round",
    "aria-hidden": "true", class: "icon",
  })) svg.setAttribute(key, value);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Seconds, as people read them. */
export function seconds(value) {
  if (value < 0.0005) return "0 ms";
  if (value < 0.995) return `${Math.max(1, Math.round(value * 1000))} ms`;
  return value < 60 ? `${value.toFixed(1)} s` : `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

export const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** Characters as Python counts them, which offsets of sources and citations are in. */
export const points = (text) => Array.from(text);

/** A button that copies a text and says so. */
export function copyButton(text, label = "Copy") {
  const button = h("button.quiet.small", { type: "button" }, icon("copy"), h("span", { text: label }));
  button.addEventListener("click", async () => {
    const said = button.lastChild;
    try {
      await navigator.clipboard.writeText(typeof text === "function" ? text() : text);
      said.textContent = "Copied";
    } catch {
      said.textContent = "The browser did not allow it";
    }
    setTimeout(() => { said.textContent = label; }, 1600);
  });
  return button;
}
