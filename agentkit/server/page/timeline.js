// Where the time and the tokens of a run went, drawn from the run's own account.

import { count, h, seconds } from "./dom.js";

const KINDS = [
  ["search", "search"],
  ["queue", "queue"],
  ["render", "render"],
  ["prefill", "prefill"],
  ["decode", "decode"],
  ["grammar", "grammar"],
  ["model", "other of the model"],
  ["tools", "tools"],
  ["loop", "agent loop"],
];
const TOKENS = [
  ["reused", "reused"],
  ["read", "read"],
  ["sampled", "sampled"],
  ["lookup", "looked up"],
  ["forced", "forced by the grammar"],
];

/**
 * @param {object} result A run's account, as `RunResult.to_dict` gives it.
 * @param {(step: number) => void} openPrompt
 */
export function timeline(result, openPrompt) {
  const lanes = laid(result);
  const total = Math.max(1e-6, ...lanes.flatMap((lane) => lane.spans.map((s) => s.start + s.length)));
  const used = new Set(lanes.flatMap((lane) => lane.spans.map((s) => s.kind)));
  const most = Math.max(1, ...result.steps.map((step) => tokensOf(step).reduce((sum, [, n]) => sum + n, 0)));
  const { usage } = result;
  const facts = [count(result.steps.length, "step"), seconds(result.seconds), count(usage.prompt_tokens + usage.generated_tokens, "token")];
  if (usage.reused_tokens) facts.push(`${usage.reused_tokens.toLocaleString("en")} reused`);
  return h("details.timeline", {},
    h("summary", { text: facts.join(" · ") }),
    h("ul.legend", {}, ...KINDS.filter(([kind]) => used.has(kind)).map(([kind, said]) => h("li", { data: { kind } }, said))),
    h("ol.steps", {}, ...lanes.map((lane) => laneElement(lane, total, most, openPrompt))),
    usage.prompt_tokens ? h("ul.legend", {}, ...TOKENS.map(([kind, said]) => h("li", { data: { kind } }, said))) : null);
}

/** The run's spans, each from its start in seconds. */
function laid(result) {
  const lanes = [];
  let at = 0;
  if (result.retrievals.length) {
    const spans = [];
    for (const { seconds: length } of result.retrievals) {
      spans.push({ kind: "search", start: at, length });
      at += length;
    }
    lanes.push({ title: "Search", spans });
  }
  result.steps.forEach((step, index) => {
    const spans = [];
    const begin = at;
    for (const kind of ["queue", "render", "prefill", "decode", "grammar"]) {
      const length = step.timings[kind] || 0;
      if (length > 0) spans.push({ kind, start: at, length });
      at += length;
    }
    const rest = begin + step.model_seconds - at;
    if (rest > 0.0005 || !spans.length) spans.push({ kind: "model", start: at, length: Math.max(0, rest) });
    at = Math.max(at, begin + step.model_seconds);
    if (step.calls.length) {
      const start = at - step.overlap_seconds;
      spans.push({ kind: "tools", start, length: step.overlap_seconds + step.tool_seconds, beside: true });
      at += step.tool_seconds;
    }
    if (step.overhead_seconds > 0.0005) {
      spans.push({ kind: "loop", start: at, length: step.overhead_seconds });
      at += step.overhead_seconds;
    }
    lanes.push({ title: `Step ${index + 1}`, spans, step, index });
  });
  return lanes;
}

function tokensOf({ usage }) {
  return [
    ["reused", usage.reused_tokens],
    ["read", usage.prefilled_tokens],
    ["sampled", usage.sampled_tokens - usage.lookup_tokens],
    ["lookup", usage.lookup_tokens],
    ["forced", usage.forced_tokens],
  ];
}

function laneElement(lane, total, most, openPrompt) {
  const said = Object.fromEntries([...KINDS, ...TOKENS]);
  const title = lane.spans.map((s) => `${said[s.kind]} ${seconds(s.length)}`).join(", ");
  const bars = h("div.bars", { role: "img", "aria-label": title, title }, ...lane.spans.map((span) => {
    const bar = h("span", { data: { kind: span.kind } });
    if (span.beside) bar.classList.add("beside");
    bar.style.setProperty("left", `${(100 * span.start) / total}%`);
    bar.style.setProperty("width", `${(100 * span.length) / total}%`);
    return bar;
  }));
  const length = Math.max(...lane.spans.map((s) => s.start + s.length)) - Math.min(...lane.spans.map((s) => s.start));
  const element = h("li", {}, h("span.what", { text: lane.title }), bars, h("span.length", { text: seconds(length) }));
  if (!lane.step) return element;
  const tokens = tokensOf(lane.step).filter(([, n]) => n > 0);
  if (tokens.length) {
    const words = tokens.map(([kind, n]) => `${n} ${said[kind]}`).join(", ");
    element.append(h("div.tokens", { role: "img", "aria-label": `Tokens: ${words}`, title: words }, ...tokens.map(([kind, n]) => {
      const bar = h("span", { data: { kind } });
      bar.style.setProperty("width", `${(100 * n) / most}%`);
      return bar;
    })), h("span.figures", { text: words }));
  }
  element.append(h("button.quiet.small", { type: "button", text: "Prompt", "aria-label": `The exact prompt of step ${lane.index + 1}`, onclick: () => openPrompt(lane.index) }));
  return element;
}
