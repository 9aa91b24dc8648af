// A panel at the right for what is looked at beside the conversation: a source, a prompt, help.

import { h, icon } from "./dom.js";

let dialog = null;

/**
 * Opens it. Escape, its button and a click beside it close it, and the focus goes back.
 * @param {string} title
 * @param {Node[]} content
 * @returns {HTMLDialogElement}
 */
export function openDrawer(title, ...content) {
  dialog?.close();
  const heading = h("h2", { text: title, id: "drawer-title", tabindex: -1 });
  const close = h("button.quiet", { type: "button", "aria-label": "Close", onclick: () => opened.close() }, icon("close"));
  const opened = h("dialog.drawer", { "aria-labelledby": "drawer-title" },
    h("header", {}, heading, close), h("div.content", {}, ...content));
  opened.addEventListener("click", (event) => { if (event.target === opened) opened.close(); });
  opened.addEventListener("close", () => {
    opened.remove();
    if (dialog === opened) dialog = null;
  });
  document.body.append(opened);
  opened.showModal();
  heading.focus();
  dialog = opened;
  return opened;
}

/** Asks for an API key. Resolves to it, or to null if the user gives none. */
export function askForKey(problem) {
  return new Promise((resolve) => {
    const input = h("input", { type: "password", id: "key", autocomplete: "off", required: true, spellcheck: "false" });
    const form = h("form", { method: "dialog" },
      h("h2", { text: "This server asks for an API key", id: "key-title" }),
      h("label", { for: "key", text: "API key" }), input,
      h("p.note", { text: "It is kept in this tab only, until you close it." }),
      problem ? h("p.problem", { text: problem, role: "alert" }) : null,
      h("div.buttons", {},
        h("button", { type: "button", text: "Cancel", onclick: () => asking.close() }),
        h("button.primary", { type: "submit", text: "Go on" })));
    const asking = h("dialog.asking", { "aria-labelledby": "key-title" }, form);
    let given = null;
    form.addEventListener("submit", () => { given = input.value.trim(); });
    asking.addEventListener("close", () => { asking.remove(); resolve(given || null); });
    document.body.append(asking);
    asking.showModal();
    input.focus();
  });
}

const SHORTCUTS = [
  ["Enter", "Send the message"],
  ["Shift Enter", "Begin a line"],
  ["↑", "In an empty message: the last one again"],
  ["Esc", "Stop the run; close a panel"],
  ["/", "Go to the message"],
  ["Alt N", "New session"],
  ["Alt S", "Go to the list of sessions"],
  ["Alt A", "Go to a call that waits for approval"],
  ["A  D", "There: allow it, deny it"],
  ["F2  Del", "On a session: rename it, delete it"],
  ["Alt P", "The exact prompt of the last step"],
  ["?", "These keys"],
];

export function openHelp() {
  openDrawer("Keys", h("dl.keys", {}, ...SHORTCUTS.flatMap(([keys, what]) => [
    h("dt", {}, ...keys.split(/  /).flatMap((combo, i) => [
      i ? " or " : "", ...combo.split(" ").map((key) => h("kbd", { text: key })),
    ])),
    h("dd", { text: what }),
  ])));
}
