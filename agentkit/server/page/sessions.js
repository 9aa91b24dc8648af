// The list of past sessions: opening, renaming, deleting.

import { $, h, icon } from "./dom.js";

export class SessionList {
  /**
   * @param {import("./api.js").Api} api
   * @param {object} hooks open(id), renamed(session), deleted(id), failed(error), say(text).
   */
  constructor(api, hooks) {
    this.api = api;
    this.hooks = hooks;
    this.element = $("sessions");
    this.all = [];
    this.current = null;
    this.search = $("search");
    let timer = 0;
    this.search.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.load(), 150);
    });
    this.element.addEventListener("keydown", (event) => this.onKey(event));
  }

  async load() {
    const asked = (this.asked = this.search.value.trim());
    try {
      const { data } = await this.api.get(`v1/sessions?search=${encodeURIComponent(asked)}`);
      if (asked !== this.asked) return; // Something else was typed meanwhile.
      this.all = data;
      this.draw();
    } catch (error) {
      this.hooks.failed(error);
    }
  }

  select(id) {
    this.current = id;
    for (const row of this.element.querySelectorAll("li")) {
      const button = row.querySelector(".open");
      if (row.dataset.id === id) button?.setAttribute("aria-current", "page");
      else button?.removeAttribute("aria-current");
    }
  }

  draw() {
    const groups = new Map();
    for (const session of this.all) {
      const day = dayOf(session.updated);
      groups.set(day, [...(groups.get(day) || []), session]);
    }
    this.element.replaceChildren(...[...groups].flatMap(([day, sessions]) => [
      h("h2", { text: day }), h("ul", {}, ...sessions.map((session) => this.row(session))),
    ]));
    if (!this.all.length) {
      this.element.append(h("p.none", { text: this.asked ? "No session is called so." : "No sessions yet." }));
    }
    this.select(this.current);
  }

  row(session) {
    const title = session.title || "Untitled";
    const open = h("button.open", { type: "button", title, onclick: () => this.hooks.open(session.id) },
      h("span.title", { text: title }), session.status === "waiting" ? h("span.waits", { text: "waits" }) : null);
    const rename = h("button.quiet.tool", { type: "button", "aria-label": `Rename ${title}`, onclick: () => this.rename(session, row) }, icon("pencil"));
    const remove = h("button.quiet.tool", { type: "button", "aria-label": `Delete ${title}`, onclick: () => this.remove(session, row) }, icon("bin"));
    const row = h("li", { data: { id: session.id } }, open, rename, remove);
    return row;
  }

  onKey(event) {
    const row = event.target.closest("li");
    if (!row || event.target.tagName === "INPUT") return;
    const session = this.all.find(({ id }) => id === row.dataset.id);
    const opens = [...this.element.querySelectorAll(".open")];
    const at = opens.indexOf(row.querySelector(".open"));
    if (event.key === "F2") this.rename(session, row);
    else if (event.key === "Delete") this.remove(session, row);
    else if (event.key === "ArrowDown") opens[at + 1]?.focus();
    else if (event.key === "ArrowUp") (opens[at - 1] ?? this.search).focus();
    else return;
    event.preventDefault();
  }

  rename(session, row) {
    const input = h("input", { type: "text", maxlength: 200, "aria-label": "New title" });
    input.value = session.title;
    const form = h("form.rename", {}, input);
    let over = false;
    const done = async (save) => {
      if (over) return;
      over = true;
      const title = input.value.trim();
      if (save && title && title !== session.title) {
        try {
          Object.assign(session, await this.api.json("PATCH", `v1/sessions/${session.id}`, { title }));
          this.hooks.renamed(session);
        } catch (error) {
          this.hooks.failed(error);
        }
      }
      const fresh = this.row(session);
      row.replaceWith(fresh);
      this.select(this.current);
      if (save !== "left") fresh.querySelector(".open").focus();
    };
    form.addEventListener("submit", (event) => { event.preventDefault(); done("kept"); });
    input.addEventListener("blur", () => done("left"));
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      done("");
      row.querySelector(".open")?.focus();
    });
    row.replaceChildren(form);
    input.select();
  }

  remove(session, row) {
    const before = [...row.childNodes];
    const back = () => {
      row.replaceChildren(...before);
      row.querySelector(".open").focus();
    };
    const keep = h("button", { type: "button", text: "Keep", onclick: back });
    const yes = h("button.danger", {
      type: "button", text: "Delete", "aria-label": `Delete ${session.title || "Untitled"} for good`,
      onclick: async () => {
        try {
          await this.api.json("DELETE", `v1/sessions/${session.id}`);
        } catch (error) {
          if (error.status !== 404) {
            back();
            this.hooks.failed(error);
            return;
          }
        }
        const at = this.all.indexOf(session);
        this.all.splice(at, 1);
        this.draw();
        const opens = this.element.querySelectorAll(".open");
        (opens[Math.min(at, opens.length - 1)] ?? $("new-session")).focus();
        this.hooks.say(`Deleted ${session.title}`);
        this.hooks.deleted(session.id);
      },
    });
    const asking = h("div.sure", { role: "group", "aria-label": "Delete this session?" }, h("span", { text: "Delete for good?" }), yes, keep);
    asking.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      back();
    });
    row.replaceChildren(asking);
    keep.focus();
  }
}

function dayOf(unix) {
  const day = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate());
  const then = new Date(unix * 1000);
  const days = Math.round((day(new Date()) - day(then)) / 86_400_000);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  if (days < 7) return "This week";
  return then.toLocaleDateString("en", { month: "long", year: "numeric" });
}
