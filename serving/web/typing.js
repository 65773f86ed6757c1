/** Searches for what is typed into a box, once it rests there; only the latest words' answer counts. */

import * as api from "./api.js";

const WAIT_MS = 180;

/**
 * Let `show` have the songs found and the words; where asking fails, no songs and what to say.
 * Returns what calls off a search that waits or runs.
 */
export function onTyping(box, show) {
  let waiting = 0;
  let asked = null;

  const stop = () => {
    clearTimeout(waiting);
    asked?.abort();
  };

  async function ask() {
    const words = box.value.trim();
    asked?.abort();
    if (!words) return show([], words);
    asked = new AbortController();
    try {
      const { songs } = await api.search(words, asked.signal);
      show(songs, words);
    } catch (error) {
      if (error.name !== "AbortError") show([], words, error.message);
    }
  }

  box.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(ask, WAIT_MS);
  });
  return stop;
}

/** Choose what a list shows first; one that is hidden shows nothing. */
export function pickFirst(list) {
  if (!list.hidden) list.querySelector(".pick")?.click();
}
