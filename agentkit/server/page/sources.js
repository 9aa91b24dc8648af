// Where an answer is from: marks in its text, the list below it, and each source at its span.

import { copyButton, h, icon, points } from "./dom.js";
import { openDrawer } from "./drawer.js";
import { mark, render, withoutMarks } from "./markdown.js";

/** The list of a run's sources, or null if it has none. */
export function sourceList(hits) {
  if (!hits.length) return null;
  return h("section.sources", { "aria-label": "Sources" },
    h("h3", {}, icon("book"), "Sources"),
    h("ol", {}, ...hits.map((hit, i) => h("li", {},
      h("button", { type: "button", onclick: () => openSource(hit, i + 1) },
        h("span.number", { text: i + 1 }), h("span.title", { text: nameOf(hit.document) }),
        h("span.place", { text: placeOf(hit.document) }))))));
}

/**
 * The answer with a mark after each sentence that a source supports.
 * @param {object} citations As `/citations` gives them.
 * @param {object[]} hits The run's sources.
 */
export function citedAnswer(citations, hits) {
  const letters = points(citations.answer).map(withoutMarks);
  const places = [];
  let text = "";
  let done = 0;
  for (const sentence of citations.sentences) {
    text += letters.slice(done, sentence.end).join("");
    done = sentence.end;
    for (const citation of sentence.citations) {
      const source = hits.findIndex(({ document }) => holds(document, citation));
      if (source < 0) continue;
      places.push({ source, citation });
      text += mark(places.length - 1);
    }
  }
  text += letters.slice(done).join("");
  const answer = render(text, (number) => {
    const place = places[number];
    if (!place) return "";
    const hit = hits[place.source];
    return h("button.cite", {
      type: "button", text: place.source + 1, title: place.citation.text.slice(0, 300),
      "aria-label": `Source ${place.source + 1}: ${nameOf(hit.document)}`,
      onclick: () => openSource(hit, place.source + 1, place.citation),
    });
  });
  answer.querySelectorAll(".cite").forEach(keepWithWord);
  return answer;
}

/** A mark never begins a line: it stays with the word before it. */
function keepWithWord(button) {
  const before = button.previousSibling;
  if (before?.className === "kept") {
    before.append(button);
    return;
  }
  if (before?.nodeType !== Node.TEXT_NODE) return;
  const word = /\S*\s*$/.exec(before.data)[0];
  before.data = before.data.slice(0, before.data.length - word.length);
  const kept = h("span.kept", { text: word });
  button.before(kept);
  kept.append(button);
}

/** Opens a source; with a citation, at its place. */
export function openSource(hit, number, citation = null) {
  const { document: source, score } = hit;
  const letters = points(source.text);
  const passage = h("div.passage", { tabindex: 0, "aria-label": "Passage" });
  let place = null;
  if (citation) {
    const [start, end] = spanIn(source, citation, letters);
    place = h("mark", { id: "cited", tabindex: -1, text: letters.slice(start, end).join("") });
    passage.append(letters.slice(0, start).join(""), place, letters.slice(end).join(""));
  } else {
    passage.textContent = source.text;
  }
  const facts = [["From", source.source], ["Characters", placeOf(source, true)], ["Document", String(source.doc_id ?? "")], ["Score", score.toFixed(3)]];
  const extra = Object.entries(source.metadata || {}).map(([k, v]) => [k, typeof v === "string" ? v : JSON.stringify(v)]);
  openDrawer(`${number}  ${nameOf(source)}`,
    h("dl.facts", {}, ...[...facts, ...extra].filter(([, v]) => v).flatMap(([k, v]) => [h("dt", { text: k }), h("dd", { text: v })])),
    passage, copyButton(source.text, "Copy passage"));
  if (place) {
    place.scrollIntoView({ block: "center" });
    place.focus({ preventScroll: true });
  }
}

const nameOf = (source) => source.title || lastPart(source.source) || `Document ${source.doc_id}`;
const lastPart = (path) => String(path || "").split(/[\\/]/).pop();

function placeOf(source, long = false) {
  if (source.start === null || source.end === null || source.start === undefined) {
    return source.title && !long ? lastPart(source.source) : "";
  }
  const span = `${source.start}–${source.end}`;
  return long ? span : `${source.title ? `${lastPart(source.source)}:` : ""}${span}`;
}

function holds(source, citation) {
  if (source.doc_id !== citation.doc_id || source.source !== citation.source) return false;
  return source.text.includes(citation.text);
}

/** Where a citation is within a source's own text; its offsets may be those of a whole file. */
function spanIn(source, citation, letters) {
  const length = citation.end - citation.start;
  for (const start of [citation.start - (source.start ?? 0), citation.start]) {
    if (start >= 0 && letters.slice(start, start + length).join("") === citation.text) return [start, start + length];
  }
  const at = source.text.indexOf(citation.text);
  const start = at < 0 ? 0 : points(source.text.slice(0, at)).length;
  return [start, start + (at < 0 ? 0 : points(citation.text).length)];
}
