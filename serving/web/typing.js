/** Searches for what is typed into a box, once it rests there; only the latest words' answer counts. */

import * as api from "./api.js";

const WAIT_MS = 180;

/**
 * Let `show` have the songs found and the words; where asking fails, no songs and what to say.
 * Returns `stop`, which calls off a search that waits or runs, and `settle`, which asks at once
 * and resolves to whether what is shown is of the words that stood in the box.
 */
export function onTyping(box, show) {
  let waiting = 0;
  let asked = null;
  let answered = Promise.resolve(false);

  const stop = () => {
    clearTimeout(waiting);
    waiting = 0;
    asked?.abort();
  };

  async function ask() {
    const words = box.value.trim();
    asked = new AbortController();
    const { signal } = asked;
    try {
      const songs = words ? (await api.search(words, signal)).songs : [];
      if (!signal.aborted) show(songs, words);
    } catch (error) {
      if (!signal.aborted) show([], words, error.message);
    }
    return !signal.aborted;
  }

  function begin() {
    stop();
    answered = ask();
  }

  function settle() {
    if (waiting) begin();
    return answered;
  }

  box.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(begin, WAIT_MS);
  });
  return { stop, settle };
}

/** Choose what a list shows first; one that is hidden shows nothing. */
export function pickFirst(list) {
  if (!list.hidden) list.querySelector(".pick")?.click();
}
