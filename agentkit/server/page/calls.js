// A tool call from its first character to its result, with the question whether it may run.

import { h, icon, seconds } from "./dom.js";

const STATUS = {
  writing: ["", "is being written"],
  waiting: ["hand", "waits for you"],
  running: ["", "runs"],
  ok: ["check", "done"],
  invalid: ["cross", "not valid"],
  failed: ["cross", "failed"],
  timeout: ["cross", "took too long"],
  refused: ["cross", "refused by a limit"],
  denied: ["cross", "denied"],
  cancelled: ["cross", "cancelled"],
};

export class CallCard {
  /** @param {(card: CallCard, answer: object) => void} answer Told the user's decision. */
  constructor(answer) {
    this.answer = answer;
    this.id = null;
    this.name = "";
    this.written = "";
    this.mark = h("span.mark");
    this.signature = h("span.signature", { text: "…" });
    this.time = h("span.time");
    this.preview = h("span.preview");
    this.body = h("div.body");
    this.element = h("details.call", {},
      h("summary", {}, this.mark, this.signature, this.time, this.preview), this.body);
    this.show("writing");
  }

  show(status) {
    this.status = status;
    this.element.dataset.status = status;
    const [name, said] = STATUS[status];
    this.mark.replaceChildren(name ? icon(name) : h("span.spinner"), h("span.unseen", { text: `${said}: ` }));
  }

  /** Another piece of the call's text. */
  write(text) {
    this.written += text;
    this.signature.textContent = this.written.trim().slice(-400) || "…";
  }

  /** The call is complete. */
  called(call) {
    this.id = call.id;
    this.name = call.name;
    this.arguments = call.arguments;
    const shown = typeof call.arguments === "string" ? call.arguments
      : Object.entries(call.arguments).map(([k, v]) => `${k}: ${JSON.stringify(v)}`).join(", ");
    this.signature.replaceChildren(h("b", { text: call.name }), `(${shown})`);
    this.body.replaceChildren(...this.details());
  }

  details() {
    return [h("h4", { text: "Arguments" }), argumentsTable(this.arguments)];
  }

  begins(call) {
    this.called(call);
    this.show("running");
  }

  /** It waits until the user says whether it may run. */
  asks(call) {
    this.called(call);
    this.show("waiting");
    this.preview.textContent = "";
    this.element.open = true;
    const reason = h("input", { type: "text", maxlength: 1000, placeholder: "Why not (optional)", "aria-label": `Why ${call.name} may not run` });
    const allow = h("button.primary", { type: "button", onclick: () => this.decide({ approve: true }) },
      h("span", { text: "Allow" }), h("kbd", { text: "A" }));
    const deny = h("button", { type: "button", onclick: () => this.decide({ approve: false, reason: reason.value.trim() }) },
      h("span", { text: "Deny" }), h("kbd", { text: "D" }));
    reason.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") this.decide({ approve: false, reason: reason.value.trim() });
    });
    this.asking = h("div.asking", { role: "group", tabindex: -1, "aria-label": `May ${call.name} run? A allows, D denies.` },
      h("p", {}, "May ", h("b", { text: call.name }), " run?"), h("div.buttons", {}, allow, deny, reason));
    this.asking.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const key = event.key.toLowerCase();
      if (key === "a") this.decide({ approve: true });
      else if (key === "d") this.decide({ approve: false });
      else return;
      event.preventDefault();
    });
    this.body.append(this.asking);
  }

  decide(answer) {
    if (!this.asking) return;
    this.asking.remove();
    this.asking = null;
    this.show(answer.approve ? "running" : "denied");
    this.preview.textContent = answer.approve ? "" : "Denied";
    this.answer(this, answer);
  }

  /** It is over, well or not. */
  ends(record) {
    if (record.status === "pending") return;
    this.called(record.call);
    this.asking = null;
    this.show(record.status);
    this.element.open = false;
    const ran = ["ok", "failed", "timeout"].includes(record.status);
    this.time.textContent = ran ? seconds(record.seconds) : "";
    this.preview.textContent = record.observation.replace(/\s+/g, " ").slice(0, 300) || "no output";
    this.body.append(h("h4", { text: "Result" }), h("pre.result", { tabindex: 0, text: pretty(record.observation), "aria-label": `Result of ${record.call.name}` }));
    if (record.repairs.length) {
      this.body.append(h("h4", { text: "Mended" }), h("ul.repairs", {}, ...record.repairs.map((text) => h("li", { text }))));
    }
  }

  /** The run was stopped before the call was over. */
  stopped() {
    if (this.status === "writing" || this.status === "running") this.show("cancelled");
  }
}

function argumentsTable(given) {
  if (typeof given === "string") return h("pre.result", { text: given });
  const entries = Object.entries(given);
  if (!entries.length) return h("p.none", { text: "none" });
  return h("dl.arguments", {}, ...entries.flatMap(([name, value]) => [
    h("dt", { text: name }),
    h("dd", { text: typeof value === "string" ? value : JSON.stringify(value, null, 1) }),
  ]));
}

/** JSON with its structure shown; any other text as it is. */
function pretty(text) {
  if (!/^\s*[[{]/.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
