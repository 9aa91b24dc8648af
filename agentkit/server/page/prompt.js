// The exact prompt of a step: what the model read, character for character.

import { copyButton, count, h } from "./dom.js";
import { openDrawer } from "./drawer.js";

const KINDS = {
  template: "the format's own",
  content: "what people, tools and documents said; delimiters in it are only text",
  written: "what the model wrote, token for token",
};

export async function openPrompt(api, session, run, step) {
  const path = `v1/sessions/${encodeURIComponent(session)}/runs/${encodeURIComponent(run)}/prompts/${step}`;
  const prompt = await api.get(path);
  const text = h("pre.prompt", { tabindex: 0, "aria-label": "Prompt" }, ...prompt.parts.map(({ kind, text: part }) =>
    h("span", { data: { kind }, text: part })));
  const facts = [count(prompt.text.length, "character")];
  if (prompt.prompt_tokens) facts.push(count(prompt.prompt_tokens, "token"), `${prompt.reused_tokens.toLocaleString("en")} of them reused`);
  openDrawer(`Prompt of step ${step + 1}`,
    h("p.note", { text: facts.join(" · ") }),
    h("ul.legend", {}, ...Object.entries(KINDS).filter(([kind]) => prompt.parts.some((p) => p.kind === kind))
      .map(([kind, said]) => h("li", { data: { kind } }, said))),
    text, copyButton(prompt.text, "Copy prompt"));
}
