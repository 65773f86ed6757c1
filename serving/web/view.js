/** Draws songs and chips. All text goes through textContent: titles are strangers' input. */

import { cover, hue } from "./cover.js";
import { icon } from "./icons.js";

export const SOURCES = {
  like: "shared likes", playlist: "shared playlists", listen: "shared listening", blend: "overall taste",
  transitions: "what follows", rules: "what follows later", together: "heard together", ease: "fits your songs",
  listeners: "shared listeners", vectors: "similar songs", sessions: "similar sessions",
  continuations: "how sessions went on", loops: "your loops", repeats: "your repeats", artists: "same artist",
  fresh: "new songs", trending: "trending", tensor: "time of day", context: "the moment", popular: "popular",
  session_repeats: "this session",
};
const MOST_SOURCES = 2;

export const byId = (id) => document.getElementById(id);
export const titleOf = (song) => song.title || `Song ${song.song_id}`;
export const artistsOf = (song) => song.artists.join(", ") || "Unknown artist";
export const worded = (word) => {
  const text = word.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
};

export function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** A name that strangers wrote: it runs as its own letters do, and is cut off at its end. */
function named(className, text) {
  const made = element("span", className, text);
  made.dir = "auto";
  return made;
}

/** Give a button its icon, its name, and whether it is pressed. */
export function dress(button, iconName, label, pressed = null) {
  button.replaceChildren(icon(iconName));
  button.setAttribute("aria-label", label);
  button.title = label;
  if (pressed !== null) button.setAttribute("aria-pressed", String(pressed));
}

export function button(action, iconName, label, pressed = null) {
  const made = element("button", "round small");
  made.type = "button";
  made.dataset.action = action;
  dress(made, iconName, label, pressed);
  return made;
}

export function drawNow(song, session, running) {
  byId("now-cover").replaceChildren(cover(song?.song_id ?? "Segue"));
  byId("now").style.setProperty("--hue", song ? hue(song.song_id) : 258);
  byId("now").classList.toggle("idle", !song);
  byId("now-title").textContent = song ? titleOf(song) : "Press play";
  byId("now-artists").textContent = song ? artistsOf(song) : "or pick a song from the queue or the search";
  byId("now-reasons").replaceChildren(...(song?.reasons ?? []).map((reason) => element("li", "", reason)));
  drawControls(song, session, running);
}

export function drawControls(song, session, running) {
  const liked = !!song && session.liked.has(song.song_id);
  const added = !!song && session.added.has(song.song_id);
  dress(byId("play"), running ? "pause" : "play", running ? "Pause" : "Play");
  dress(byId("like"), "like", liked ? "Unlike" : "Like", liked);
  dress(byId("add"), added ? "added" : "add", added ? "Remove from playlist" : "Add to playlist", added);
  dress(byId("skip"), "skip", "Skip");
  dress(byId("next"), "next", "Heard it, next");
  for (const id of ["like", "add", "skip", "next", "song-radio"]) byId(id).disabled = !song;
  byId("list-radio").hidden = !session.added.size;
}

/** What a row shows of a song: its title above its artists. */
export function namesOf(song) {
  const made = element("span", "names");
  made.append(named("title", titleOf(song)), named("artists", artistsOf(song)));
  return made;
}

export function drawQueue(songs, session) {
  const held = heldFocus();
  byId("songs").replaceChildren(...songs.map((song, place) => row(song, session, place)));
  if (held) restoreFocus(held);
}

function row(song, session, place) {
  const item = element("li", "song");
  item.dataset.song = song.song_id;
  const main = element("button", "pick");
  main.type = "button";
  main.dataset.action = "play";
  main.tabIndex = place === 0 ? 0 : -1;
  main.setAttribute("aria-label", `Play ${titleOf(song)} by ${artistsOf(song)}. ${song.reasons.join(". ")}`);
  const art = element("span", "cover");
  art.append(cover(song.song_id), icon("play"));
  main.append(art, namesOf(song));
  item.append(main, why(song), acts(song, session));
  return item;
}

function why(song) {
  const made = element("div", "why");
  made.dataset.action = "why";
  made.append(element("p", "reason", song.reasons.join(" · ")));
  const tags = element("p", "sources");
  const names = song.sources.map((source) => SOURCES[source] ?? source);
  names.slice(0, MOST_SOURCES).forEach((name) => tags.append(element("span", "source", name)));
  if (names.length > MOST_SOURCES) {
    const more = element("span", "source more", `+${names.length - MOST_SOURCES}`);
    more.title = names.slice(MOST_SOURCES).join(", ");
    tags.append(more);
  }
  made.append(tags);
  return made;
}

function acts(song, session) {
  const title = titleOf(song);
  const liked = session.liked.has(song.song_id);
  const added = session.added.has(song.song_id);
  const made = element("div", "acts");
  if (song.p_like !== null) {
    const chance = element("span", "chance", `${Math.round(song.p_like * 100)} %`);
    chance.title = "How likely a like is";
    made.append(chance);
  }
  made.append(
    button("like", "like", `${liked ? "Unlike" : "Like"} ${title}`, liked),
    button("add", added ? "added" : "add", `${added ? "Remove" : "Add"} ${title}`, added),
    button("skip", "skip", `Not ${title}`),
    button("why", "info", `Why ${title}`),
  );
  return made;
}

/** Remember which button of which song has the focus before the list is drawn anew. */
function heldFocus() {
  const item = document.activeElement?.closest?.("#songs .song");
  if (!item) return null;
  const place = [...item.parentElement.children].indexOf(item);
  return { song: item.dataset.song, place, action: document.activeElement.dataset.action };
}

function restoreFocus({ song, place, action }) {
  const items = [...byId("songs").children];
  const same = items.find((item) => item.dataset.song === song);
  const item = same ?? items[Math.min(place, items.length - 1)];
  if (item) item.querySelector(`[data-action="${same ? action : "play"}"]`).focus();
  else byId("queue").focus();
}

/** Fill a group with chips of which one or none is on. */
export function drawChips(group, words, changed, named = worded) {
  group.hidden = words.length === 0;
  for (const word of words) {
    const chip = element("button", "chip", named(word));
    chip.type = "button";
    chip.setAttribute("aria-pressed", "false");
    chip.addEventListener("click", () => {
      const on = chip.getAttribute("aria-pressed") !== "true";
      group.querySelectorAll(".chip").forEach((other) => other.setAttribute("aria-pressed", "false"));
      chip.setAttribute("aria-pressed", String(on));
      changed(on ? word : null);
    });
    group.append(chip);
  }
}

export function option(value, text) {
  const made = element("option", "", text);
  made.value = value;
  return made;
}

export const clockText = (ms) => {
  const seconds = Math.floor(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
};
