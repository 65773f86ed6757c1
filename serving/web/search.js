/** The search box: songs to start from, below it. */

import { cover } from "./cover.js";
import { onTyping, pickFirst } from "./typing.js";
import { byId, element, namesOf } from "./view.js";

export function setUpSearch(play) {
  const box = byId("search");
  const list = byId("found");
  const { stop, settle } = onTyping(box, show);

  const close = () => {
    stop();
    list.hidden = true;
  };

  function show(songs, words, instead = "Nothing found") {
    list.replaceChildren(...songs.map(row));
    if (!songs.length) list.append(element("li", "none", instead));
    list.hidden = !words;
  }

  function row(song) {
    const item = element("li");
    const pick = element("button", "pick");
    pick.type = "button";
    const art = element("span", "cover");
    art.append(cover(song.song_id));
    pick.append(art, namesOf(song));
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

  box.parentElement.addEventListener("keydown", async (event) => {
    const arrow = ["ArrowDown", "ArrowUp"].includes(event.key);
    if (event.key === "Escape") {
      close();
      box.focus();
    } else if (arrow && event.target !== box) move(event);
    else if ((arrow || event.key === "Enter") && event.target === box) {
      // Else the same key press would go on to the play button, which then has the focus.
      event.preventDefault();
      // A hurried key means the words as they stand, not those whose songs are shown yet.
      if (!(await settle()) || list.hidden) return;
      if (arrow) move(event);
      else pickFirst(list);
    }
  });
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".search")) close();
  });
}
