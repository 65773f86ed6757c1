/** The player: one listener, one session, and a queue that answers everything they do. */

import * as api from "./api.js";
import { EventLog } from "./events.js";
import { onKeys } from "./keys.js";
import { setUpListener } from "./listener.js";
import { setUpSearch } from "./search.js";
import { Session } from "./session.js";
import { Steering, drawRadio, nextMode, radioName, setUpSteering } from "./steer.js";
import { onSwipes } from "./touch.js";
import { artistsOf, byId, clockText, drawNow, drawQueue, titleOf } from "./view.js";
import { setUpWhy } from "./why.js";

const QUEUE = 12;
const TICK_MS = 250;
const RETRY_MS = 5000;
// The API refuses a longer played_ms.
const LONGEST_MS = 86_400_000;

const state = {
  who: { user_id: null, profile: null },
  steering: new Steering(),
  session: new Session(),
  song: null,
  queue: [],
  heardMs: 0,
  running: false,
};
const events = new EventLog();
let asked = null;
let prepared = false;
let retrying = 0;
let showWhy = () => {};

/** Ask for the queue; only the latest question's answer counts. */
async function refresh(said = "") {
  if (prepared) clearTimeout(retrying);
  asked?.abort();
  asked = new AbortController();
  const mine = asked;
  byId("songs").setAttribute("aria-busy", "true");
  byId("empty").hidden = true;
  try {
    const answer = await api.recommend(question(), mine.signal);
    if (mine !== asked) return;
    state.queue = answer.songs;
    drawQueue(state.queue, state.session);
    byId("empty").hidden = state.queue.length > 0;
    place(answer);
    drawVersion(answer);
    byId("fault").hidden = prepared;
    say(`${said} ${upNext()}`.trim());
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  } finally {
    if (mine === asked) byId("songs").setAttribute("aria-busy", "false");
  }
}

function question() {
  const { who, steering, session } = state;
  // Named, else what an earlier page of this listener did of late would be of this session, too.
  const named = { session_id: session.id, session: session.toJSON() };
  return { ...who, ...steering.toJSON(), ...named, k: QUEUE, explain: true };
}

/** Remember which answer proposed a song, and where: its events say so. */
function place({ request_id, model_version, variant, songs }) {
  songs.forEach((song, index) => {
    const propensity = song.propensity === undefined ? {} : { propensity: song.propensity };
    song.shown = { request_id, model_version, variant, position: index + 1, ...propensity };
  });
}

/** Tell the service what became of a song. */
function tell(song, action, playedMs) {
  const { occasion, mood } = state.steering.context;
  const told = {
    user_id: state.who.user_id, session_id: state.session.id, song_id: song.song_id, action,
    surface: song.shown ? "recommended" : "search", ...song.shown,
  };
  if (playedMs !== undefined) told.played_ms = Math.round(playedMs);
  if (occasion) told.occasion = occasion;
  if (mood) told.mood = mood;
  events.add(told);
}

function upNext() {
  const [first] = state.queue;
  return first ? `Up next: ${titleOf(first)} by ${artistsOf(first)}.` : "The queue is empty.";
}

function drawVersion(answer) {
  const without = answer.degraded.length ? `, without ${answer.degraded.join(", ")}` : "";
  byId("version").textContent = `model ${answer.model_version}${without}`;
  const notes = [...answer.notes ?? [], ...(answer.relaxed ?? []).map((rule) => `Relaxed: ${rule.replaceAll("_", " ")}.`)];
  byId("notes").hidden = notes.length === 0;
  byId("notes").textContent = notes.join(" ");
}

function fail(error) {
  byId("fault").hidden = false;
  byId("fault").querySelector("span").textContent = error.message;
  clearTimeout(retrying);
  if (error.passing) retrying = setTimeout(tryAgain, RETRY_MS);
}

function tryAgain() {
  if (prepared) refresh();
  else prepare();
}

function say(text) {
  byId("said").textContent = text;
}

function play(song) {
  cut();
  begin(song);
}

/** End the current song before its end: that is a skip. */
function cut() {
  if (state.song && state.session.playing) tell(state.song, "skip", state.heardMs);
  state.session.cut(state.heardMs);
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
    tell(song, state.session.liked.has(song.song_id) ? "like" : "unlike");
    changed(`${state.session.liked.has(song.song_id) ? "Liked" : "No longer liked"}: ${titleOf(song)}.`);
  },
  add(song) {
    state.session.add(song.song_id);
    tell(song, state.session.added.has(song.song_id) ? "playlist_add" : "playlist_remove");
    changed(`${state.session.added.has(song.song_id) ? "Added" : "Removed"}: ${titleOf(song)}.`);
  },
  skip(song) {
    if (song === state.song) {
      cut();
      advance();
      return;
    }
    state.session.refuse(song.song_id);
    tell(song, "skip", 0);
    state.queue = state.queue.filter((other) => other !== song);
    changed(`Not ${titleOf(song)}.`);
  },
  next() {
    if (state.song) tell(state.song, "play");
    state.session.finish();
    advance();
  },
  why: (song) => showWhy(song),
  radio(song) {
    state.steering.fromSong(song);
    steered(`Radio from ${radioName(song)}.`);
  },
  artist(song) {
    state.steering.fromArtist(song);
    steered(`Radio from ${song.artists[0]}.`);
  },
  less(song) {
    state.steering.less(song);
    state.queue = state.queue.filter((other) => other.song_id !== song.song_id);
    changed(`Less like ${titleOf(song)}.`);
  },
  mode: () => nextMode(state.steering, refresh),
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

function steered(said) {
  drawRadio(state.steering);
  refresh(said);
}

function changed(said) {
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

function listenAs(who, loved, said) {
  cut();
  state.who = who;
  state.session = new Session();
  state.steering.reset();
  drawRadio(state.steering);
  loved.forEach((song) => state.session.like(song.song_id));
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
  byId("song-radio").addEventListener("click", () => acts.radio(state.song));
  byId("list-radio").addEventListener("click", () => {
    state.steering.fromSongs(state.session.added);
    steered("Radio from what you added.");
  });
  byId("songs").addEventListener("click", (event) => {
    const pressed = event.target.closest("[data-action]");
    if (pressed) acts[pressed.dataset.action](songOf(pressed.closest(".song")));
  });
  byId("fault").querySelector("button").addEventListener("click", tryAgain);
}

function setUpClock() {
  let last = performance.now();
  setInterval(() => {
    const now = performance.now();
    if (state.running) state.heardMs = Math.min(state.heardMs + now - last, LONGEST_MS);
    last = now;
    drawClock();
  }, TICK_MS);
}

/** Ask for what the controls are made of. */
async function prepare() {
  try {
    const [{ vocabulary }, { listeners }] = await Promise.all([api.status(), api.listeners()]);
    if (prepared) return;
    prepared = true;
    setUpSteering(state.steering, vocabulary, refresh);
    setUpListener(listeners, vocabulary, listenAs);
  } catch (error) {
    fail(error);
  }
}

/** Whoever leaves has heard a song so far. A page that comes back goes on with the next one. */
function leave() {
  cut();
  Object.assign(state, { song: null, heardMs: 0, running: false });
  draw();
  events.leave();
}

function start() {
  addEventListener("pagehide", leave);
  setUpButtons();
  setUpClock();
  draw();
  onKeys(acts, { current: () => state.song, songOf });
  onSwipes(byId("songs"), { like: acts.like, skip: acts.skip, songOf });
  showWhy = setUpWhy(acts);
  setUpSearch(play);
  prepare();
}

start();
