"""What a listener carries from song to song and from day to day, in arrays of fixed width."""

from dataclasses import dataclass

import numpy as np

from simulation.draws import Array

LIBRARY = 48
RECENT = 32
KEPT = 256
NONE = -1
DECAY_A_DAY = 0.97


@dataclass
class Memory:
    """State by listener; `NONE` marks empty places.

    Attributes
    ----------
    library, strength : arrays (listeners, LIBRARY)
        Songs returned to, and how strongly.
    recent : array (listeners, RECENT)
        The latest listenings, a ring.
    liked, added : arrays (listeners, KEPT)
        Songs liked and in playlists now, rings.
    likes, adds, heard, sessions : arrays (listeners,)
        Counts since the start.
    last : array (listeners,)
        Latest song.
    busy_until : array (listeners,)
        End of the latest session, microseconds since 1970.
    """

    library: Array
    strength: Array
    recent: Array
    liked: Array
    added: Array
    likes: Array
    adds: Array
    heard: Array
    sessions: Array
    last: Array
    busy_until: Array

    @classmethod
    def empty(cls, listeners: int) -> "Memory":
        """Return the state of listeners who have heard nothing."""

        def ring(width: int) -> Array:
            return np.full((listeners, width), NONE, dtype=np.int32)

        def count() -> Array:
            return np.zeros(listeners, dtype=np.int64)

        return cls(
            library=ring(LIBRARY),
            strength=np.zeros((listeners, LIBRARY), dtype=np.float32),
            recent=ring(RECENT),
            liked=ring(KEPT),
            added=ring(KEPT),
            likes=count(),
            adds=count(),
            heard=count(),
            sessions=count(),
            last=count(),
            busy_until=count(),
        )

    def fatigue(self, users: Array, songs: Array) -> Array:
        """Return log(1 + plays among the latest `RECENT`) of songs (n,) or (n, k)."""
        wide = songs.reshape(len(users), -1)
        plays = (self.recent[users][:, None, :] == wide[:, :, None].astype(np.int32)).sum(axis=2)
        return np.log1p(plays).reshape(songs.shape)

    def hear(self, users: Array, songs: Array, skipped: Array, chance: Array) -> None:
        """Note listenings (each user once): recent ring, last song, library.

        A song played to its end grows stronger in the library, or may push the weakest out;
        a skipped one fades.
        """
        self.recent[users, self.heard[users] % RECENT] = songs
        self.heard[users] += 1
        self.last[users] = songs
        same = self.library[users] == songs[:, None]
        known = same.any(axis=1)
        slot = same.argmax(axis=1)
        self._scale(users[known], slot[known], skipped[known])
        enters = ~known & ~skipped & (chance < 0.6)
        self._insert(users[enters], songs[enters], 1.0)

    def keep(self, ring: str, users: Array, songs: Array) -> Array:
        """Like or add songs; return which of them were not so already."""
        places, count = (self.liked, self.likes) if ring == "liked" else (self.added, self.adds)
        new = ~(places[users] == songs[:, None]).any(axis=1)
        users, songs = users[new], songs[new]
        places[users, count[users] % KEPT] = songs
        count[users] += 1
        self._insert(users, songs, 2.5)
        return new

    def drop(self, ring: str, users: Array, songs: Array) -> Array:
        """Take back likes or adds; return which of the songs were liked or added."""
        places = self.liked if ring == "liked" else self.added
        same = places[users] == songs[:, None]
        had = same.any(axis=1)
        places[users[had], same.argmax(axis=1)[had]] = NONE
        return had

    def fade(self) -> None:
        """Let a day pass."""
        self.strength *= np.float32(DECAY_A_DAY)

    def _scale(self, users: Array, slots: Array, skipped: Array) -> None:
        kept = self.strength[users, slots]
        self.strength[users, slots] = np.where(skipped, 0.55 * kept, kept + 1.0)

    def _insert(self, users: Array, songs: Array, strength: float) -> None:
        """Put songs in the library: in their own place, else in the weakest one."""
        same = self.library[users] == songs[:, None]
        weakest = self.strength[users].argmin(axis=1)
        slot = np.where(same.any(axis=1), same.argmax(axis=1), weakest)
        self.library[users, slot] = songs
        self.strength[users, slot] = np.maximum(self.strength[users, slot], 0) + strength
