/** The drawer that says why a song is proposed, and from which the queue can be steered. */

import { cover } from "./cover.js";
import { SOURCES, artistsOf, byId, dress, element, titleOf } from "./view.js";

export function setUpWhy(acts) {
  const drawer = byId("why");
  let shown = null;
  dress(byId("why-close"), "skip", "Close");
  drawer.addEventListener("click", (event) => {
    const pressed = event.target.closest("[data-action]");
    // A click on the dialog itself is one beside its content.
    if (event.target === drawer || pressed) drawer.close();
    if (pressed) acts[pressed.dataset.action](shown);
  });
  return (song) => {
    shown = song;
    draw(song);
    drawer.showModal();
  };
}

function draw(song) {
  byId("why-cover").replaceChildren(cover(song.song_id));
  byId("why-title").textContent = titleOf(song);
  byId("why-artists").textContent = artistsOf(song);
  byId("why-chance").textContent = song.p_like == null
    ? "" : `You would like it with a chance of ${Math.round(song.p_like * 100)} %.`;
  byId("why-reasons").replaceChildren(...reasons(song));
  byId("why-sources").replaceChildren(
    ...song.sources.map((name) => element("span", "source", SOURCES[name] ?? name)));
  byId("why").querySelector('[data-action="artist"]').hidden = !song.artists.length;
}

function reasons(song) {
  const known = song.why?.length ? song.why : song.reasons.map((text) => ({ text }));
  return known.map((one) => {
    const item = element("li");
    item.append(element("span", "text", one.text));
    if (one.effect > 0) item.append(element("span", "effect", behind(one)));
    return item;
  });
}

function behind({ of, effect }) {
  const size = effect < 0.005 ? "a little" : effect.toFixed(2);
  if (of === "request") return `You asked for it: that raises the score by ${size}.`;
  if (of === "ranker") return `Without it the ranker’s score would be ${size} lower.`;
  return `Without that song the score of “${SOURCES[of] ?? of}” would be ${size} lower.`;
}
