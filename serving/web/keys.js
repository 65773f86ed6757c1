/** Keyboard: letters act on the queue's focused song, else on the current one. */

import { byId } from "./view.js";

const LETTERS = { l: "like", a: "add", s: "skip", w: "why", r: "radio", x: "less" };

export function onKeys(acts, { current, songOf }) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, select, textarea, .found")) return;
    const item = event.target.closest("#songs .song");
    if (act(event, item)) event.preventDefault();
  });

  function act(event, item) {
    const name = LETTERS[event.key.toLowerCase()];
    if (name) {
      const song = item ? songOf(item) : current();
      if (song && !event.repeat) acts[name](song);
      return Boolean(song);
    }
    switch (event.key) {
      case " ":
        // A focused button is pressed by Space itself.
        if (event.target.closest("button")) return false;
        acts.toggle();
        return true;
      case "ArrowRight":
        if (current() && !event.repeat) acts.next();
        return true;
      case "ArrowDown":
        return move(item, 1);
      case "ArrowUp":
        return move(item, -1);
      case "m":
      case "M":
        acts.mode();
        return true;
      case "/":
        byId("search").focus();
        return true;
      default:
        return false;
    }
  }
}

/** Move the focus to the next or previous song of the queue. */
function move(item, step) {
  const items = [...byId("songs").children];
  const target = item ? items[items.indexOf(item) + step] : step > 0 && items[0];
  if (!target) return Boolean(item);
  items.forEach((other) => { other.querySelector(".pick").tabIndex = other === target ? 0 : -1; });
  target.querySelector(".pick").focus();
  return true;
}
