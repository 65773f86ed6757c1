/**
 * Tells the service what was done, in small batches, and when: it may be told late. Where the service
 * takes no events nothing is sent.
 */

import * as api from "./api.js";
import { newId } from "./session.js";

const WAIT_MS = 250;
const RETRY_MS = 5000;
const MOST_WAITING = 500;
// A body that is to outlive the page may have 64 KiB; an event of long ids takes one of them.
const BATCH = 50;

export class EventLog {
  constructor() {
    this.waiting = [];
    this.timer = 0;
    this.refused = false;
    this.taken = false;
    // Whoever leaves the page takes its timers with them.
    addEventListener("pagehide", () => this.send());
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

  async send() {
    const sent = this.waiting.slice(0, BATCH);
    if (!sent.length) return;
    const events = sent.map(({ at, event }) => ({ ...event, ts: api.momentOf(at) }));
    const status = await api.sendEvents(events).catch(() => 0);
    // Refused for good; sending the same again would change nothing.
    if (status === 404 || status === 405) this.refused = true;
    this.taken ||= status === 200;
    const again = status === 0 || status === 429 || status >= 500;
    if (!again) this.waiting = this.waiting.filter((one) => !sent.includes(one));
    if (this.refused) this.waiting = [];
    if (this.waiting.length) this.plan(again ? RETRY_MS : WAIT_MS);
  }
}
