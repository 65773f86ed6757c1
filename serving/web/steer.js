/** What bends the queue: the mode, the moment's words, a radio, and songs of which less is wanted. */

import { artistsOf, byId, drawChips, element, titleOf, worded } from "./view.js";

export const MODES = ["balanced", "familiar", "discover", "popular", "deep_cuts"];
const MOST_SEEDS = 100;

const ABOUT = {
  balanced: "What suits you best",
  familiar: "More of what you know",
  discover: "More that is new to you",
  popular: "More of what everybody plays",
  deep_cuts: "Little-known songs of artists you know",
};

export class Steering {
  constructor() {
    this.mode = "balanced";
    this.context = {};
    this.radio = null;
    this.lessLike = [];
  }

  /** Forget what belongs to one session. */
  reset() {
    this.radio = null;
    this.lessLike = [];
  }

  fromSong(song) {
    this.radio = { seed: { song_id: song.song_id }, name: titleOf(song) };
  }

  fromArtist(song) {
    this.radio = { seed: { artist: song.artists[0] }, name: song.artists[0] };
  }

  fromSongs(songIds) {
    this.radio = { seed: { song_ids: [...songIds].slice(-MOST_SEEDS) }, name: "what you added" };
  }

  less(song) {
    this.lessLike = [...this.lessLike.filter((id) => id !== song.song_id), song.song_id].slice(-MOST_SEEDS);
  }

  /** The request's fields. Spacing is always asked for; the service lets an artist's radio stay with that artist. */
  toJSON() {
    const context = Object.fromEntries(Object.entries(this.context).filter(([, word]) => word));
    const asked = { mode: this.mode, context, spacing: true };
    if (this.radio) asked.seed = this.radio.seed;
    if (this.lessLike.length) asked.less_like = this.lessLike;
    return asked;
  }
}

export function setUpSteering(steering, vocabulary, changed) {
  drawModes(steering, changed);
  const kinds = [["occasion", "occasions"], ["mood", "moods"], ["era", "eras"], ["language", "songs-in"]];
  for (const [kind, group] of kinds) {
    drawChips(byId(group), vocabulary[kind], (word) => {
      steering.context[kind] = word;
      changed(word ? `${worded(word)}.` : "Any.");
    }, wording[kind]);
  }
  byId("more-chips").hidden = !vocabulary.era.length && !vocabulary.language.length;
  byId("radio").querySelector("button").addEventListener("click", () => {
    steering.radio = null;
    drawRadio(steering);
    changed("The radio is off.");
  });
}

const wording = { era: (word) => `${word}s`, language: languageName };

export function languageName(code) {
  try {
    return new Intl.DisplayNames(["en"], { type: "language" }).of(code) ?? code;
  } catch {
    return code;
  }
}

function drawModes(steering, changed) {
  byId("modes").hidden = false;
  for (const mode of MODES) {
    const chip = element("button", "chip", worded(mode));
    chip.type = "button";
    chip.title = ABOUT[mode];
    chip.dataset.mode = mode;
    chip.addEventListener("click", () => choose(steering, mode, changed));
    byId("modes").append(chip);
  }
  markMode(steering.mode);
}

function choose(steering, mode, changed) {
  steering.mode = mode;
  markMode(mode);
  changed(`${worded(mode)}: ${ABOUT[mode]}.`);
}

export function nextMode(steering, changed) {
  choose(steering, MODES[(MODES.indexOf(steering.mode) + 1) % MODES.length], changed);
}

function markMode(mode) {
  for (const chip of byId("modes").querySelectorAll(".chip")) {
    chip.setAttribute("aria-pressed", String(chip.dataset.mode === mode));
  }
}

export function drawRadio({ radio }) {
  byId("radio").hidden = !radio;
  byId("radio").querySelector("span").textContent = radio ? `Radio from ${radio.name}` : "";
}

export const radioName = (song) => `${titleOf(song)} by ${artistsOf(song)}`;
