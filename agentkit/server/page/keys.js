// Shortcuts, and the sidebar, which on narrow screens comes and goes.

import { $, icon } from "./dom.js";
import { openHelp } from "./drawer.js";

/** @param {object} actions stop, newSession, toSessions, toApproval, prompt. */
export function onKeys(actions) {
  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return; // It has keys of its own.
    const typing = event.target.matches?.("input, textarea, select");
    // By the key's place: with Alt some keyboards write other letters.
    const alt = event.altKey && !event.ctrlKey && !event.metaKey ? event.code : "";
    if (event.key === "Escape") actions.stop();
    else if (alt === "KeyN") actions.newSession();
    else if (alt === "KeyS") actions.toSessions();
    else if (alt === "KeyA") actions.toApproval();
    else if (alt === "KeyP") actions.prompt();
    else if (event.altKey || event.ctrlKey || event.metaKey || typing) return;
    else if (event.key === "/") $("input").focus();
    else if (event.key === "?") openHelp();
    else return;
    if (event.key !== "Escape") event.preventDefault();
  });
}

export function sidebar() {
  const [opener, closer] = [$("open-sidebar"), $("close-sidebar")];
  const narrow = matchMedia("(max-width: 760px)");
  const root = document.documentElement;
  opener.append(icon("menu"));
  closer.append(icon("close"));
  const set = (open) => {
    root.classList.toggle("sidebar-open", open);
    opener.setAttribute("aria-expanded", String(open));
    $("sidebar").inert = narrow.matches && !open;
    document.querySelector("main").inert = narrow.matches && open;
  };
  const close = () => {
    const was = root.classList.contains("sidebar-open");
    set(false);
    if (was) opener.focus();
  };
  opener.addEventListener("click", () => { set(true); closer.focus(); });
  closer.addEventListener("click", close);
  $("veil").addEventListener("click", close);
  $("sidebar").addEventListener("keydown", (event) => {
    if (event.key === "Escape" && narrow.matches) close();
  });
  narrow.addEventListener("change", () => set(false));
  set(false);
  return { open: () => { if (narrow.matches) set(true); }, close: () => { if (narrow.matches) close(); } };
}
