// The page: which session is open, what runs in it, and the keys.

import { Api } from "./api.js";
import { $, h, icon } from "./dom.js";
import { askForKey, openHelp } from "./drawer.js";
import { onKeys, sidebar } from "./keys.js";
import { openPrompt } from "./prompt.js";
import { RunView } from "./run_view.js";
import { SessionList } from "./sessions.js";
import { themeSwitch } from "./theme.js";

const runs = $("runs");
const input = $("input");
const send = $("send");
const transcript = $("transcript");

const api = new Api(async (problem) => {
  const key = await askForKey(problem);
  $("forget-key").hidden = !key;
  return key;
});

const state = {
  session: null, // the open one, as the server tells of it
  agents: [],
  views: [],
  running: null, // an AbortController while a run is at work
  sent: "",
  answers: {}, // of calls that were asked about, until all are answered
  stopped: null, // a run that could go on
  connected: null, // a promise: the agents are known
  opening: 0, // counts what was opened, so that an answer that comes too late is dropped
};

function say(text, urgent = false) {
  const place = $(urgent ? "alert" : "live");
  if (urgent) place.textContent = text;
  else place.append(h("p", { text }));
  while (place.childElementCount > 30) place.firstElementChild.remove();
}

const hooks = {
  say,
  answer: (view, card, answer) => answered(view, card, answer),
  openPrompt: (view, step) => openPrompt(api, view.session, view.runId, step).catch(showProblem),
  citations: (view) => api.get(`${runPath(view)}/citations`),
};

const runPath = (view) => `v1/sessions/${view.session}/runs/${view.runId}`;

const list = new SessionList(api, {
  open: (id) => { location.hash = id; sides.close(); },
  renamed: (session) => { if (session.id === state.session?.id) setTitle(session.title); },
  deleted: (id) => { if (id === state.session?.id) newSession(); },
  failed: showProblem,
  say,
});

// --- sessions ---

function setTitle(title) {
  $("title").textContent = title || "New session";
  document.title = title ? `${title} · agentkit` : "agentkit";
}

function clear() {
  state.opening += 1;
  state.running?.abort();
  state.running = null;
  state.session = null;
  state.views = [];
  state.answers = {};
  state.stopped = null;
  runs.replaceChildren();
  update();
}

function newSession() {
  if (location.hash) history.replaceState(null, "", location.pathname);
  clear();
  list.select(null);
  setTitle("");
  welcome();
  sides.close();
  input.focus();
}

function welcome() {
  const agent = state.agents.find(({ id }) => id === $("agent").value);
  const content = h("div.welcome", {});
  if (!agent) {
    content.append(h("h2", { text: "No agent is served here" }), h("p", {}, "Start the server with ", h("code", { text: "agentkit serve --agents NAME=module:attribute" }), "."));
  } else {
    content.append(h("h2", { text: agent.id }), h("p.model", { text: agent.model }));
    if (agent.tools.length) {
      content.append(h("ul.tools", {}, ...agent.tools.map((tool) => h("li", {},
        h("code", { text: tool.name }), h("span", { text: firstSentence(tool.description) })))));
    }
  }
  runs.replaceChildren(content);
}

const firstSentence = (text) => (/^[\s\S]*?[.!?](?=\s|$)/.exec(text || "")?.[0] ?? text ?? "").replace(/\s+/g, " ");

async function openSession(id) {
  clear();
  list.select(id);
  const opening = state.opening;
  try {
    const session = await api.get(`v1/sessions/${encodeURIComponent(id)}`);
    if (opening !== state.opening) return;
    state.session = session;
    setTitle(session.title);
    $("agent").value = session.agent;
    for (const run of session.runs) {
      const view = newView(run.prompt, session.id);
      view.runId = run.id;
      if (run.result) view.replay(run);
      if (run.error) view.failed(run.error);
    }
    if (session.status === "interrupted") interrupted(state.views.at(-1));
    if (session.status === "running") state.views.at(-1)?.failed("This run is at work elsewhere.", () => openSession(id));
    update();
    toEnd(true);
    input.focus();
  } catch (error) {
    if (opening !== state.opening) return;
    newSession();
    showProblem(error);
  }
}

function newView(prompt, session) {
  const view = new RunView(prompt, hooks);
  view.session = session;
  state.views.push(view);
  runs.append(view.element);
  return view;
}

// --- runs ---

async function submit() {
  await state.connected; // What is sent before the agents are known waits for them.
  const text = input.value.trim();
  if (!text || state.running || waiting() || !$("agent").value) return;
  state.sent = text;
  input.value = "";
  grow();
  const opening = state.opening;
  if (!state.session) runs.replaceChildren();
  const view = newView(text, state.session?.id);
  view.working("Sending");
  toEnd(true);
  await work(view, async (signal) => {
    if (!state.session) {
      const made = await api.json("POST", "v1/sessions", { agent: $("agent").value });
      if (opening !== state.opening) return null;
      state.session = made;
      view.session = made.id;
      history.replaceState(null, "", `#${made.id}`);
      list.current = made.id;
    }
    return api.events(`v1/sessions/${state.session.id}/runs`, { input: text }, signal);
  }, () => {
    view.element.remove();
    state.views = state.views.filter((each) => each !== view);
    input.value = text;
    submit();
  });
}

/** A call's question is answered; the run goes on once all of its questions are. */
async function answered(view, card, answer) {
  state.answers[card.id] = answer;
  const next = view.cards.find((each) => each.asking);
  if (next) {
    next.asking.focus();
    return;
  }
  const approve = state.answers;
  state.answers = {};
  input.focus();
  view.working("Going on");
  await work(view, async (signal) => api.events(`${runPath(view)}/resume`, { approve }, signal), () => openSession(view.session));
}

/** A run that was stopped, here or with the server, can go on, or be given up. */
function interrupted(view) {
  const resume = async () => {
    view.working("Going on");
    view.after.replaceChildren();
    await work(view, async (signal) => api.events(`${runPath(view)}/resume`, {}, signal), () => openSession(view.session));
    // Its events told only of what is new; the account has all of it.
    if (view.run && state.session?.id === view.session) await openSession(view.session);
  };
  const giveUp = async () => {
    try {
      await api.json("DELETE", runPath(view));
    } catch (error) {
      showProblem(error);
    }
    await openSession(view.session);
  };
  view.failed("This run was stopped before it was over.", { "Go on": resume, "Give it up": giveUp });
  state.stopped = view;
  update();
}

/** After a stop: what the server has kept of the run. */
async function stopped(view) {
  view.failed("Stopping …");
  let session = null;
  // The server needs a moment to notice that nobody listens any longer.
  for (let tries = 0; tries < 40 && view.session; tries += 1) {
    session = await api.get(`v1/sessions/${view.session}`).catch(() => null);
    if (session?.status !== "running" || state.session?.id !== view.session) break;
    await new Promise((resolve) => setTimeout(resolve, 50 + 25 * tries));
  }
  if (!session || state.session?.id !== view.session) return view.failed("Stopped.");
  const last = session.runs.at(-1);
  if (session.status === "interrupted" && last) {
    view.runId = last.id;
    interrupted(view);
  } else if (session.status === "waiting") {
    await openSession(view.session);
  } else {
    view.failed("Stopped. The server keeps nothing of this run.");
  }
}

/** Carries out a run, or what is left of one, and shows how it ends. */
async function work(view, begin, again) {
  const control = (state.running = new AbortController());
  state.stopped = null;
  update();
  let finished = false;
  try {
    for await (const event of (await begin(control.signal)) ?? []) {
      view.handle(event);
      finished ||= event.type === "run_finished";
      toEnd();
    }
    if (!finished && !control.signal.aborted) view.failed("The connection ended before the run did.", again);
  } catch (error) {
    if (control.signal.aborted) await stopped(view);
    else view.failed(error.message, again);
  } finally {
    if (state.running === control) state.running = null;
    update();
    toEnd();
    await list.load();
    const session = list.all.find(({ id }) => id === state.session?.id);
    if (session) setTitle(session.title);
  }
}

const waiting = () => Boolean(state.stopped) || state.views.some((view) => view.cards.some((card) => card.asking));

function stop() {
  state.running?.abort();
}

// --- the message, the scrolling ---

function update() {
  const busy = Boolean(state.running);
  send.replaceChildren(icon(busy ? "stop" : "send"));
  send.setAttribute("aria-label", busy ? "Stop" : "Send");
  send.classList.toggle("stop", busy);
  send.disabled = !busy && (waiting() || !input.value.trim());
  input.placeholder = state.stopped ? "First say whether the run above goes on" : waiting() ? "First say whether the call above may run" : "Ask something";
  $("agent").disabled = Boolean(state.session) || busy;
}

function grow() {
  input.style.setProperty("height", "auto");
  input.style.setProperty("height", `${Math.min(input.scrollHeight, innerHeight * 0.4)}px`);
  update();
}

const atEnd = () => transcript.scrollHeight - transcript.scrollTop - transcript.clientHeight < 80;
let following = true;
function follow() {
  following = atEnd();
  $("newest").hidden = following;
}
transcript.addEventListener("scroll", follow, { passive: true });

function toEnd(always = false) {
  if (always) following = true;
  if (!following) return;
  requestAnimationFrame(() => { transcript.scrollTop = transcript.scrollHeight; });
}
new ResizeObserver(() => {
  if (state.running) toEnd();
  else follow();
}).observe(runs);

function showProblem(error) {
  if (error.status === 401) return; // The user was asked for a key and gave none.
  const notice = h("div.notice.floating", { role: "alert" }, h("p", { text: error.message }),
    h("button.quiet", { type: "button", "aria-label": "Close", onclick: () => notice.remove() }, icon("close")));
  document.querySelector(".floating")?.remove();
  $("composer").before(notice);
}

// --- beginning ---

const sides = sidebar();
themeSwitch();
$("newest").prepend(icon("down"));
$("help").append(icon("help"));
$("help").setAttribute("aria-label", "Keys");
$("help").addEventListener("click", openHelp);
$("forget-key").append(icon("key"));
$("forget-key").setAttribute("aria-label", "Forget the API key");
$("forget-key").title = "Forget the API key";
$("forget-key").hidden = !api.key;
$("forget-key").addEventListener("click", () => { api.key = ""; location.replace(location.pathname); });
$("newest").addEventListener("click", () => toEnd(true));
$("new-session").addEventListener("click", newSession);
$("agent").addEventListener("change", () => { if (!state.session) welcome(); });
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.running) stop();
  else submit();
});
input.addEventListener("input", grow);
input.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    submit();
  } else if (event.key === "ArrowUp" && !input.value && state.views.length) {
    event.preventDefault();
    input.value = state.views.at(-1).prompt;
    grow();
  }
});
addEventListener("hashchange", () => {
  const id = location.hash.slice(1);
  if (id && id !== state.session?.id) openSession(id);
  else if (!id && state.session) newSession();
});
onKeys({
  stop: () => { if (state.running) stop(); },
  newSession,
  toSessions: () => { sides.open(); (list.element.querySelector(".open[aria-current], .open") ?? $("search")).focus(); },
  toApproval: () => {
    const card = state.views.flatMap((view) => view.cards).find((each) => each.asking);
    card?.asking.scrollIntoView({ block: "center" });
    card?.asking.focus();
  },
  prompt: () => {
    const view = state.views.findLast((each) => each.run);
    if (view) hooks.openPrompt(view, view.run.result.steps.length - 1);
  },
});

async function begin() {
  update();
  try {
    state.agents = (await api.get("v1/agents")).data;
  } catch (error) {
    const notice = h("div.welcome", {}, h("h2", { text: "Not connected" }), h("p", { text: error.message }),
      h("button", { type: "button", text: "Try again", onclick: () => { state.connected = begin(); } }));
    runs.replaceChildren(notice);
    return;
  }
  $("forget-key").hidden = !api.key;
  $("agent").replaceChildren(...state.agents.map(({ id }) => h("option", { value: id, text: id })));
  $("agent").parentElement.hidden = state.agents.length === 0;
  const id = location.hash.slice(1);
  if (!id) newSession(); // Before the list is there, since by then a message may have been sent.
  await list.load();
  if (id) await openSession(id);
}

state.connected = begin();
