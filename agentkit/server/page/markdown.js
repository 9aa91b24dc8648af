// The part of Markdown that models write, as DOM nodes. HTML in it is text like any other; links
// go to http, https and mailto only; images are not loaded but named.

import { h } from "./dom.js";

/** Stands in a text where a mark goes; see `render`. */
export const mark = (number) => `\uE000${number}\uE001`;
const MARK = /\uE000(\d+)\uE001/g;
export const withoutMarks = (text) => text.replace(/[\uE000\uE001]/g, "");

/**
 * @param {string} text Markdown; may hold what `mark` gives.
 * @param {(number: number) => Node} marked Makes the node of a mark.
 */
export function render(text, marked = () => "") {
  const fragment = document.createDocumentFragment();
  blocks(text.replace(/\r\n?/g, "\n").split("\n"), fragment, { marked, depth: 0 });
  return fragment;
}

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const ROW = /^\s*\|.*\|\s*$/;
const RULED = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

function blocks(lines, parent, context) {
  let i = 0;
  while (i < lines.length) {
    const line = lines[i];
    let found;
    if (!line.trim()) {
      i += 1;
    } else if ((found = FENCE.exec(line))) {
      i = fence(lines, i, found, parent);
    } else if ((found = HEADING.exec(line))) {
      // The page's own headings are above those of an answer.
      const element = h(`h${Math.min(6, found[1].length + 2)}`);
      inline(found[2], element, context);
      parent.append(element);
      i += 1;
    } else if (RULE.test(line)) {
      parent.append(h("hr"));
      i += 1;
    } else if (QUOTE.test(line) && context.depth < 8) {
      const inner = [];
      while (i < lines.length && QUOTE.test(lines[i])) inner.push(lines[i++].replace(QUOTE, ""));
      const quote = h("blockquote");
      blocks(inner, quote, { ...context, depth: context.depth + 1 });
      parent.append(quote);
    } else if (ITEM.test(line) && context.depth < 8) {
      i = list(lines, i, parent, context);
    } else if (ROW.test(line) && i + 1 < lines.length && RULED.test(lines[i + 1])) {
      i = table(lines, i, parent, context);
    } else {
      i = paragraph(lines, i, parent, context);
    }
  }
}

function paragraph(lines, i, parent, context) {
  const text = [];
  do text.push(lines[i++]);
  while (
    i < lines.length && lines[i].trim() && !FENCE.test(lines[i]) && !HEADING.test(lines[i]) &&
    !QUOTE.test(lines[i]) && !ITEM.test(lines[i]) && !RULE.test(lines[i])
  );
  const element = h("p");
  inline(text.join("\n"), element, context);
  parent.append(element);
  return i;
}

function fence(lines, i, found, parent) {
  const [, fenced, language] = found;
  const code = [];
  i += 1;
  while (i < lines.length && !closes(lines[i], fenced)) code.push(lines[i++]);
  const element = h("code", { text: withoutAnyMark(code.join("\n")) });
  parent.append(h("pre.code", { tabindex: 0, "aria-label": language ? `Code, ${language}` : "Code" }, element));
  return i + 1;
}

const closes = (line, fenced) => {
  const text = line.trim();
  return text.length >= fenced.length && text === fenced[0].repeat(text.length);
};

function list(lines, i, parent, context) {
  const [, indent, bullet] = ITEM.exec(lines[i]);
  const ordered = /\d/.test(bullet);
  const start = ordered ? parseInt(bullet, 10) : 1;
  const element = h(ordered ? "ol" : "ul", start !== 1 ? { start } : {});
  while (i < lines.length) {
    const found = ITEM.exec(lines[i]);
    if (!found || found[1].length > indent.length + 1 || found[1].length < indent.length) break;
    if (/\d/.test(found[2]) !== ordered) break;
    const content = [found[3]];
    const inset = found[1].length + found[2].length + 1;
    i += 1;
    while (i < lines.length) {
      const blank = !lines[i].trim();
      const deeper = /^ */.exec(lines[i])[0].length >= Math.min(inset, indent.length + 2);
      if (blank ? !(lines[i + 1] || "").startsWith(" ".repeat(indent.length + 2)) : !deeper) break;
      content.push(lines[i].replace(new RegExp(`^ {0,${inset}}`), ""));
      i += 1;
    }
    const item = h("li");
    blocks(content, item, { ...context, depth: context.depth + 1 });
    // One paragraph alone needs no space around it.
    const first = item.firstElementChild;
    if (first?.tagName === "P") first.replaceWith(...first.childNodes);
    element.append(item);
    while (i < lines.length && !lines[i].trim() && ITEM.test(lines[i + 1] || "")) i += 1;
  }
  parent.append(element);
  return i;
}

function table(lines, i, parent, context) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((c) => c.trim().replace(/\\\|/g, "|"));
  const row = (line, tag) => h("tr", {}, ...cells(line).map((text) => {
    const cell = h(tag);
    inline(text, cell, context);
    return cell;
  }));
  const head = row(lines[i], "th");
  const body = h("tbody");
  i += 2;
  while (i < lines.length && ROW.test(lines[i])) body.append(row(lines[i++], "td"));
  parent.append(h("div.table", { tabindex: 0, role: "region", "aria-label": "Table" }, h("table", {}, h("thead", {}, head), body)));
  return i;
}

// In the order in which they are tried at a place.
const INLINE = [
  [/^\\([\\`*_{}[\]()#+.!|~>-])/, (m) => m[1]],
  [/^(`+)(?!`)([\s\S]*?[^`])\1(?!`)/, (m) => h("code", { text: withoutAnyMark(m[2]) })],
  [/^\uE000(\d+)\uE001/, (m, context) => context.marked(Number(m[1]))],
  [/^\*\*(?=\S)([\s\S]{0,4000}?\S)\*\*/, (m, context) => nested("strong", m[1], context)],
  [/^__(?=\S)([\s\S]{0,4000}?\S)__(?!\w)/, (m, context) => nested("strong", m[1], context)],
  [/^\*(?=[^\s*])([\s\S]{0,4000}?[^\s*])\*(?!\*)/, (m, context) => nested("em", m[1], context)],
  [/^_(?=[^\s_])([\s\S]{0,4000}?[^\s_])_(?!\w)/, (m, context) => nested("em", m[1], context)],
  [/^~~(?=\S)([\s\S]{0,4000}?\S)~~/, (m, context) => nested("del", m[1], context)],
  [/^!\[([^\]\n]{0,500})\]\(([^)\s]{1,2000})[^)\n]{0,500}\)/, (m) => link(m[2], `image: ${m[1] || m[2]}`)],
  [/^\[([^\]\n]{1,500})\]\(([^)\s]{1,2000})(?:\s+"[^"\n]{0,500}")?\)/, (m) => link(m[2], m[1])],
  [/^<((?:https?:\/\/|mailto:)[^\s<>]{1,2000})>/, (m) => link(m[1], m[1])],
  [/^https?:\/\/[^\s<>\uE000]{1,2000}/, (m) => link(m[0].replace(/[.,;:!?)\]'"]+$/, ""), null)],
  [/^ {2,}\n|^\n/, () => h("br")],
];
const SPECIAL = /[\\`*_~![<h\n\uE000]| {2,}\n/g;

function inline(text, parent, context) {
  let at = 0;
  let plain = 0;
  const depth = context.inner || 0;
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const next = SPECIAL.exec(text);
    if (!next) break;
    at = next.index;
    const node = depth < 6 ? special(text, at, context) : null;
    if (node === null) {
      at += 1;
      continue;
    }
    parent.append(text.slice(plain, at), node.made);
    at += node.length;
    plain = at;
  }
  parent.append(withoutMarks(text.slice(plain)));
}

function special(text, at, context) {
  // A word's own underscore or "http" does not begin anything.
  if ("_h".includes(text[at]) && at > 0 && /\w/.test(text[at - 1])) return null;
  const rest = text.slice(at, at + 8100);
  for (const [pattern, make] of INLINE) {
    const found = pattern.exec(rest);
    if (!found) continue;
    const made = make(found, context);
    const bare = found[0].startsWith("http");
    return { made, length: bare ? made.textContent.length : found[0].length };
  }
  return null;
}

function nested(tag, text, context) {
  const element = h(tag);
  inline(text, element, { ...context, inner: (context.inner || 0) + 1 });
  return element;
}

function link(href, text) {
  const shown = withoutAnyMark(text ?? href);
  let url = null;
  try {
    url = new URL(withoutAnyMark(href));
  } catch {
    // Relative ones would lead into this server.
  }
  if (!url || !["http:", "https:", "mailto:"].includes(url.protocol)) {
    return document.createTextNode(shown);
  }
  // "url.href" and no text of the model's: what is followed is what was checked.
  return h("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow", text: shown });
}

const withoutAnyMark = (text) => withoutMarks(text.replace(MARK, ""));
