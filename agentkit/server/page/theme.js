// The theme: the system's, or the one that was chosen.

import { $, icon } from "./dom.js";

const NEXT = { auto: "light", light: "dark", dark: "auto" };
const SAID = { auto: "System theme", light: "Light theme", dark: "Dark theme" };
const ICON = { auto: "auto", light: "sun", dark: "moon" };

export function themeSwitch() {
  const button = $("theme");
  const show = () => {
    const now = document.documentElement.dataset.theme || "auto";
    button.replaceChildren(icon(ICON[now]));
    button.setAttribute("aria-label", `${SAID[now]}; switch to: ${SAID[NEXT[now]]}`);
    button.title = SAID[now];
  };
  button.addEventListener("click", () => {
    const next = NEXT[document.documentElement.dataset.theme || "auto"];
    if (next === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      if (next === "auto") localStorage.removeItem("agentkit.theme");
      else localStorage.setItem("agentkit.theme", next);
    } catch {
      // Then for this page only.
    }
    show();
  });
  show();
}
