/** The running session: what was played, skipped, liked and added, in order. */

const MOST = 500;

/** A random id; `crypto.randomUUID` is not there where the page came over plain HTTP. */
export const newId = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export class Session {
  constructor() {
    this.id = newId();
    this.events = [];
    this.playing = null;
    this.liked = new Set();
    this.added = new Set();
  }

  /** Begin a song; what it becomes (heard or skipped) is written when it ends. */
  start(songId) {
    this.playing = { song_id: songId, action: "play" };
    this.events.push(this.playing);
  }

  /** The current song was heard to its end. */
  finish() {
    this.playing = null;
  }

  /** The current song was cut short after so many milliseconds. */
  cut(playedMs) {
    if (!this.playing) return;
    this.playing.action = "skip";
    this.playing.played_ms = Math.round(playedMs);
    this.playing = null;
  }

  /** A song of the queue was turned down unheard. */
  refuse(songId) {
    this.events.push({ song_id: songId, action: "skip", played_ms: 0 });
  }

  like(songId) {
    this.toggle(this.liked, songId, "like", "unlike");
  }

  add(songId) {
    this.toggle(this.added, songId, "playlist_add", "playlist_remove");
  }

  toggle(set, songId, on, off) {
    const had = set.delete(songId);
    if (!had) set.add(songId);
    this.events.push({ song_id: songId, action: had ? off : on });
  }

  /** The events as the API takes them: the latest, within its limit. */
  toJSON() {
    return this.events.slice(-MOST);
  }

  counts() {
    const count = (action) => this.events.filter((event) => event.action === action).length;
    return { played: count("play"), skipped: count("skip"), liked: this.liked.size, added: this.added.size };
  }
}
