/**
 * Tells the service what was done, in small batches, and when: it may be told late, by the next page
 * if this one is left before. Where the service takes no events nothing is sent.
 */

import * as api from "./api.js";
import { newId } from "./session.js";

const WAIT_MS = 250;
const RETRY_MS = 5000;
const MOST_WAITING = 500;
// A body that is to outlive the page may have 64 KiB; an event of long ids takes one of them.
const BATCH = 50;
// Where the browser keeps what a page that was left could not tell.
const UNTOLD = "segue-untold";

export class EventLog {
  constructor() {
    this.waiting = takeUntold();
    this.timer = 0;
    this.refused = false;
    if (this.waiting.length) this.plan(WAIT_MS);
  }

  /** Queue an event; newcomers without an id have nobody to write it down for. */
  add(event) {
    if (this.refused || !event.user_id) return;
    this.waiting.push({ at: Date.now(), event: { event_id: newId(), ...event } });
    // Old events give way: a page must not fill the memory of a listener whose network is gone.
    this.waiting = this.waiting.slice(-MOST_WAITING);
    this.plan(WAIT_MS);
  }

  plan(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), ms);
  }

  /**
   * Tell what waits while the page is left, which takes its timers with it, and keep it: nobody is
   * here to hear whether that arrives. Twice does no harm.
   */
  leave() {
    if (!this.waiting.length) return;
    const timed = this.waiting.map((one) => ({ ...one, event: withMoment(one) }));
    keepUntold([...takeUntold(), ...timed].slice(-MOST_WAITING));
    this.send();
  }

  async send() {
    const sent = this.waiting.slice(0, BATCH);
    if (!sent.length) return;
    const status = await api.sendEvents(sent.map(withMoment)).catch(() => 0);
    // Refused for good; sending the same again would change nothing.
    if (status === 404 || status === 405) this.refused = true;
    const again = status === 0 || status === 429 || status >= 500;
    if (!again) this.waiting = this.waiting.filter((one) => !sent.includes(one));
    if (this.refused) this.waiting = [];
    if (this.waiting.length) this.plan(again ? RETRY_MS : WAIT_MS);
  }
}

/** Return an event with its moment; one that another page kept has it, by the clock of then. */
function withMoment({ at, event }) {
  return { ts: api.momentOf(at), ...event };
}

/** Browsers may forbid to keep anything. */
function keepUntold(waiting) {
  try {
    localStorage.setItem(UNTOLD, JSON.stringify(waiting));
  } catch {
    // Then it is lost with the page.
  }
}

function takeUntold() {
  try {
    const kept = JSON.parse(localStorage.getItem(UNTOLD));
    localStorage.removeItem(UNTOLD);
    return kept ?? [];
  } catch {
    return [];
  }
}
