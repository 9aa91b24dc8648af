// One exchange: what the user said, and the run that answers it, as its events arrive.

import { CallCard } from "./calls.js";
import { copyButton, count, h, icon, seconds } from "./dom.js";
import { render } from "./markdown.js";
import { citedAnswer, sourceList } from "./sources.js";
import { timeline } from "./timeline.js";

const STOPS = {
  length: "The answer was cut off at the most tokens that a turn may have.",
  max_steps: "The run ended at the most steps that it may take.",
  max_tokens: "The run ended at the most tokens that it may take.",
  max_seconds: "The run ended at the time that it may take.",
  max_calls_per_tool: "The run ended at the most calls that a tool may get.",
  max_retries: "The run ended as its calls kept failing.",
  error: "The run ended with an error.",
};

export class RunView {
  /**
   * @param {string} prompt What the user said.
   * @param {object} hooks
   *   answer(view, card, answer): a call's question is answered;
   *   openPrompt(view, step); citations(view): a promise of them; say(text, urgent): to listeners.
   */
  constructor(prompt, hooks) {
    this.hooks = hooks;
    this.prompt = prompt;
    this.runId = null;
    this.cards = [];
    this.said = 0;
    this.body = h("div.run");
    this.note = h("p.working", {}, h("span.spinner"), h("span", { text: "Waiting for a place" }));
    this.after = h("div.after");
    this.element = h("article.exchange", {}, h("div.user", {}, h("p", { text: prompt })), this.body, this.after);
    this.turn = null;
  }

  /** Work begins, or goes on. */
  working(text = "Reading") {
    this.body.setAttribute("aria-busy", "true");
    this.note.lastChild.textContent = text;
    this.body.append(this.note);
  }

  handle(event) {
    switch (event.type) {
      case "text_delta": return this.text(event.text);
      case "call_delta": return this.callDelta(event);
      case "retrieval": return this.retrieval(event);
      case "tools_selected": return this.remark(`Tools shown: ${event.names.join(", ") || "none"}`);
      case "approval_requested": return this.asks(event.call);
      case "tool_call_started": return this.begins(event.call);
      case "tool_result": return this.result(event.record);
      case "rewind": return this.rewind(event);
      case "retry": return this.working("Trying again");
      case "step_finished": return this.stepFinished();
      case "answer_checked":
        return event.grounding.refused
          ? this.remark("The documents do not support the answer; it was replaced.") : undefined;
      case "run_finished": return this.finish(event.run);
      default: return undefined; // of a newer server
    }
  }

  /** A run of the past, from its account. */
  replay(run) {
    for (const retrieval of run.result.retrievals) this.retrieval(retrieval);
    for (const step of run.result.steps) {
      if (step.text) this.open().text = step.text;
      this.draw();
      for (const rewind of step.rewinds) this.remark(`A call was written anew: ${rewind.reason}`);
      for (const call of step.calls) {
        const card = this.newCard();
        if (call.status === "pending") card.asks(call);
        else card.ends({ ...call, call });
      }
      this.turn = null;
    }
    this.finish(run, true);
  }

  open() {
    if (!this.turn) {
      this.turn = { element: h("div.answer"), text: "", drawn: false };
      this.place(this.turn.element);
    }
    return this.turn;
  }

  place(element) {
    if (this.note.parentNode === this.body) this.note.before(element);
    else this.body.append(element);
  }

  text(text) {
    const turn = this.open();
    turn.text += text;
    this.note.remove();
    if (!turn.drawn) {
      turn.drawn = true;
      // Drawn anew as a whole, so not for each token.
      setTimeout(() => requestAnimationFrame(() => { if (turn.drawn) this.draw(turn); }), 40);
    }
    this.sayFinished();
  }

  draw(turn = this.turn) {
    if (!turn) return;
    turn.drawn = false;
    turn.element.replaceChildren(render(turn.text));
    turn.element.classList.toggle("live", this.body.hasAttribute("aria-busy"));
  }

  /** Tell listeners what is finished of the answer, sentence by sentence. */
  sayFinished(all = false) {
    const text = this.turn?.text ?? "";
    if (this.turn !== this.saying) [this.saying, this.said] = [this.turn, 0];
    const rest = text.slice(this.said);
    const end = all ? rest.length : /^[\s\S]*[.!?:\n](?=\s)/.exec(rest)?.[0].length ?? 0;
    if (end > 0 && rest.slice(0, end).trim()) {
      this.hooks.say(rest.slice(0, end).trim());
      this.said += end;
    }
  }

  newCard() {
    const card = new CallCard((which, answer) => this.hooks.answer(this, which, answer));
    this.cards.push(card);
    let group = this.body.lastElementChild === this.note ? this.note.previousElementSibling : this.body.lastElementChild;
    if (!group?.classList.contains("calls")) this.place((group = h("div.calls")));
    group.append(card.element);
    return card;
  }

  /** The card of a call; the first one in writing becomes that of a call not seen so far. */
  card(id) {
    return this.cards.find((card) => card.id === id) ??
      this.cards.find((card) => card.status === "writing" && card.id === null) ?? this.newCard();
  }

  callDelta({ text, index }) {
    const writing = this.cards.filter((card) => card.step === this.steps);
    let card = writing.find((each) => each.index === index);
    if (!card) {
      this.closeTurn();
      card = this.newCard();
      card.index = index;
      card.step = this.steps;
      this.working("Writing a call");
    }
    card.write(text);
  }

  rewind({ index, reason }) {
    const at = this.cards.findLastIndex((card) => card.index === index && card.status === "writing");
    if (at >= 0) this.cards.splice(at, 1)[0].element.remove();
    this.remark(`A call was written anew: ${reason}`);
  }

  asks(call) {
    this.closeTurn();
    this.card(call.id).asks(call);
    this.hooks.say(`${call.name} waits for your approval. Alt A goes there.`, true);
  }

  begins(call) {
    this.closeTurn();
    this.card(call.id).begins(call);
    this.working(`Calling ${call.name}`);
    this.hooks.say(`Calling ${call.name}`);
  }

  result(record) {
    if (record.status === "pending") return;
    this.closeTurn();
    this.card(record.call.id).ends(record);
    this.working();
    this.hooks.say(`${record.call.name}: ${record.status === "ok" ? "" : `${record.status}, `}${record.observation.slice(0, 200)}`);
  }

  closeTurn() {
    this.sayFinished(true);
    this.draw();
    this.turn = null;
  }

  get steps() {
    return this.finished ?? 0;
  }

  stepFinished() {
    this.finished = this.steps + 1;
    this.closeTurn();
    this.working();
  }

  retrieval({ query, hits, seconds: took }) {
    const words = query.split("\n").pop();
    const asked = words === this.prompt ? "" : ` for “${words}”`;
    this.place(h("p.remark", {}, icon("book"), h("span", { text: `Searched${asked}: ${count(hits.length, "passage")} in ${seconds(took)}` })));
  }

  remark(text) {
    this.place(h("p.remark", {}, h("span", { text })));
  }

  /** The run is over, or waits. */
  finish(run, past = false) {
    const { result } = run;
    this.runId = run.id;
    this.run = run;
    this.sayFinished(true);
    this.settle();
    const waiting = run.pending.length > 0;
    // Where a run ends at a limit, its answer may be none of its turns.
    const last = [...this.body.querySelectorAll(".answer")].at(-1);
    if (!waiting && run.output && !last) this.place(h("div.answer", {}, render(run.output)));
    for (const call of run.pending) if (!this.card(call.id).asking) this.card(call.id).asks(call);
    this.after.replaceChildren();
    if (!waiting && STOPS[result.stop_reason]) this.after.append(h("p.notice", { text: STOPS[result.stop_reason] }));
    if (!waiting) this.sources(result.sources);
    const account = timeline(result, (step) => this.hooks.openPrompt(this, step));
    this.after.append(h("footer", {}, account, run.output && !waiting ? copyButton(run.output) : ""));
    if (!past && !waiting) this.hooks.say("The answer is complete.");
  }

  sources(hits) {
    const list = sourceList(hits);
    if (!list) return;
    this.after.append(list);
    const answer = [...this.body.querySelectorAll(".answer")].at(-1);
    this.hooks.citations(this).then((citations) => {
      if (answer?.isConnected && citations.sentences.some((s) => s.citations.length)) {
        answer.replaceChildren(citedAnswer(citations, hits));
      }
    }, () => {}); // The list of sources is there all the same.
  }

  /** Nothing is at work any longer. */
  settle() {
    this.body.removeAttribute("aria-busy");
    this.note.remove();
    this.draw();
    for (const element of this.body.querySelectorAll(".live")) element.classList.remove("live");
    this.turn = null;
  }

  /**
   * The run was stopped, or failed.
   * @param {string} message
   * @param {Function|Object<string, Function>|null} again What can be done about it.
   */
  failed(message, again = null) {
    this.settle();
    for (const card of this.cards) card.stopped();
    const notice = h("div.notice", {}, h("p", { text: message }));
    const ways = typeof again === "function" ? { "Try again": again } : again ?? {};
    notice.append(h("span.ways", {}, ...Object.entries(ways).map(([text, onclick]) => h("button", { type: "button", text, onclick }))));
    this.after.replaceChildren(notice);
    this.hooks.say(message, true);
  }
}
