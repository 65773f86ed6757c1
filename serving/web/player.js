/** The player: one listener, one session, and a queue that answers everything they do. */

import * as api from "./api.js";
import { onKeys } from "./keys.js";
import { setUpListener } from "./listener.js";
import { setUpSearch } from "./search.js";
import { Session } from "./session.js";
import {
  artistsOf, byId, clockText, drawChips, drawControls, drawNow, drawQueue, titleOf,
} from "./view.js";

const QUEUE = 12;
const TICK_MS = 250;

const state = {
  who: { user_id: null, profile: null },
  context: {},
  session: new Session(),
  song: null,
  queue: [],
  heardMs: 0,
  running: false,
};
let asked = null;

/** Ask for the queue; only the latest question's answer counts. */
async function refresh(said = "") {
  asked?.abort();
  asked = new AbortController();
  const mine = asked;
  byId("songs").setAttribute("aria-busy", "true");
  try {
    const answer = await api.recommend(question(), mine.signal);
    if (mine !== asked) return;
    state.queue = answer.songs;
    drawQueue(state.queue, state.session);
    drawVersion(answer);
    byId("fault").hidden = true;
    say(`${said} ${upNext()}`.trim());
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  } finally {
    if (mine === asked) byId("songs").setAttribute("aria-busy", "false");
  }
}

function question() {
  const { who, context, session } = state;
  const given = Object.fromEntries(Object.entries(context).filter(([, word]) => word));
  return { ...who, context: given, session: session.toJSON(), k: QUEUE, explain: true };
}

function upNext() {
  const [first] = state.queue;
  return first ? `Up next: ${titleOf(first)} by ${artistsOf(first)}.` : "The queue is empty.";
}

function drawVersion(answer) {
  const without = answer.degraded.length ? `, without ${answer.degraded.join(", ")}` : "";
  byId("version").textContent = `model ${answer.model_version}${without}`;
}

function fail(error) {
  byId("fault").hidden = false;
  byId("fault").querySelector("span").textContent = error.message;
}

function say(text) {
  byId("said").textContent = text;
}

function play(song) {
  state.session.cut(state.heardMs);
  begin(song);
}

function begin(song) {
  state.song = song;
  state.heardMs = 0;
  state.running = true;
  state.session.start(song.song_id);
  state.queue = state.queue.filter((other) => other.song_id !== song.song_id);
  draw();
  refresh(`Now playing ${titleOf(song)} by ${artistsOf(song)}.`);
}

function advance() {
  const [song] = state.queue;
  if (song) begin(song);
  else stop();
}

function stop() {
  Object.assign(state, { song: null, running: false, heardMs: 0 });
  draw();
  refresh();
}

const acts = {
  play,
  like(song) {
    state.session.like(song.song_id);
    changed(`${state.session.liked.has(song.song_id) ? "Liked" : "No longer liked"}: ${titleOf(song)}.`);
  },
  add(song) {
    state.session.add(song.song_id);
    changed(`${state.session.added.has(song.song_id) ? "Added" : "Removed"}: ${titleOf(song)}.`);
  },
  skip(song) {
    if (song === state.song) {
      state.session.cut(state.heardMs);
      advance();
      return;
    }
    state.session.refuse(song.song_id);
    state.queue = state.queue.filter((other) => other !== song);
    changed(`Not ${titleOf(song)}.`);
  },
  next() {
    state.session.finish();
    advance();
  },
  toggle() {
    if (!state.song) {
      advance();
      return;
    }
    state.running = !state.running;
    draw();
    say(state.running ? "Playing." : "Paused.");
  },
};

function changed(said) {
  drawQueue(state.queue, state.session);
  draw();
  refresh(said);
}

function draw() {
  drawNow(state.song, state.session, state.running);
  drawQueue(state.queue, state.session);
  drawClock();
  const { played, skipped, liked, added } = state.session.counts();
  byId("session").textContent =
    `${played} played · ${skipped} skipped · ${liked} liked · ${added} added`;
}

function drawClock() {
  byId("clock").textContent = state.song ? clockText(state.heardMs) : "";
}

function listenAs(who, said) {
  state.who = who;
  state.session = new Session();
  Object.assign(state, { song: null, queue: [], heardMs: 0, running: false });
  draw();
  refresh(said);
}

function songOf(item) {
  return state.queue.find((song) => song.song_id === item.dataset.song);
}

function setUpButtons() {
  byId("play").addEventListener("click", acts.toggle);
  byId("next").addEventListener("click", () => acts.next());
  for (const name of ["like", "add", "skip"]) {
    byId(name).addEventListener("click", () => acts[name](state.song));
  }
  byId("songs").addEventListener("click", (event) => {
    const pressed = event.target.closest("[data-action]");
    if (pressed) acts[pressed.dataset.action](songOf(pressed.closest(".song")));
  });
  byId("fault").querySelector("button").addEventListener("click", () => refresh());
}

function setUpClock() {
  let last = performance.now();
  setInterval(() => {
    const now = performance.now();
    if (state.running) state.heardMs += now - last;
    last = now;
    drawClock();
  }, TICK_MS);
}

async function start() {
  setUpButtons();
  setUpClock();
  draw();
  onKeys(acts, { current: () => state.song, songOf });
  setUpSearch(play);
  try {
    const [{ vocabulary }, { listeners }] = await Promise.all([api.status(), api.listeners()]);
    for (const [kind, group] of [["occasion", "occasions"], ["mood", "moods"]]) {
      drawChips(byId(group), vocabulary[kind], (word) => {
        state.context[kind] = word;
        refresh();
      });
    }
    setUpListener(listeners, vocabulary, listenAs);
  } catch (error) {
    fail(error);
  }
}

start();
