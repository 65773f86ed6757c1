/** The search box: songs to start from, below it. */

import * as api from "./api.js";
import { cover } from "./cover.js";
import { artistsOf, byId, element, titleOf } from "./view.js";

const WAIT_MS = 180;

export function setUpSearch(play) {
  const box = byId("search");
  const list = byId("found");
  let waiting = 0;
  let asked = null;

  const close = () => {
    clearTimeout(waiting);
    asked?.abort();
    list.hidden = true;
  };

  async function ask() {
    const words = box.value.trim();
    if (!words) return close();
    asked?.abort();
    asked = new AbortController();
    try {
      const { songs } = await api.search(words, asked.signal);
      show(songs);
    } catch (error) {
      if (error.name !== "AbortError") show([], error.message);
    }
  }

  function show(songs, instead = "Nothing found") {
    list.replaceChildren(...songs.map(row));
    if (!songs.length) list.append(element("li", "none", instead));
    list.hidden = false;
  }

  function row(song) {
    const item = element("li");
    const pick = element("button", "pick");
    pick.type = "button";
    const art = element("span", "cover");
    art.append(cover(song.song_id));
    const names = element("span", "names");
    names.append(element("span", "title", titleOf(song)), element("span", "artists", artistsOf(song)));
    pick.append(art, names);
    pick.addEventListener("click", () => {
      close();
      box.value = "";
      play({ ...song, sources: [], reasons: ["You chose it"], p_like: null });
      byId("play").focus();
    });
    item.append(pick);
    return item;
  }

  function move(event) {
    const picks = [...list.querySelectorAll(".pick")];
    const place = picks.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
    event.preventDefault();
    (picks[Math.min(place, picks.length - 1)] ?? box).focus();
  }

  box.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(ask, WAIT_MS);
  });
  box.parentElement.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      close();
      box.focus();
    } else if (["ArrowDown", "ArrowUp"].includes(event.key) && !list.hidden) move(event);
    else if (event.key === "Enter" && event.target === box) {
      // Else the same key press would go on to the play button, which then has the focus.
      event.preventDefault();
      list.querySelector(".pick")?.click();
    }
  });
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".search")) close();
  });
}
