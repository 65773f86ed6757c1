"""Which song a listener puts on next by own choice: a soft choice among a few that come to mind."""

from dataclasses import dataclass

import numpy as np

from simulation.draws import Array, pick, uniforms
from simulation.listeners import Listeners
from simulation.market import DECADES, FIRST_DECADE, NEIGHBOURS, Market, genre_shelf
from simulation.memory import LIBRARY, Memory
from simulation.model import TEENS_MIDDLE, Model
from simulation.sessions import Sessions
from simulation.vocabulary import LANGUAGE_CODES, STYLES, SURFACES

# Where candidates come from: how many of each, and the surface they are met on.
SOURCES = (
    ("library", 8, "library"),
    ("album", 1, "library"),
    ("artist", 3, "search"),
    ("favourite", 1, "search"),
    ("context", 2, "search"),
    ("neighbour", 3, "radio"),
    ("taste", 3, "radio"),
    ("era", 2, "radio"),
    ("popular", 1, "radio"),
)
COUNTS = {name: count for name, count, _ in SOURCES}
CANDIDATES = sum(COUNTS.values())
SURFACE = np.concatenate([[SURFACES.index(at)] * count for _, count, at in SOURCES])
# Flow: what counts besides the utility when one song follows another.
LIBRARY_PULL = 0.7
ALBUM_PULL = 1.4
NEIGHBOUR_PULL = 0.8
ARTIST_PULL = np.array([-0.3, 1.9, -0.5])
RUN_WEARINESS = 0.25
ERA_PULL = np.array([0.15, 0.1, 1.2])
TEMPO_PULL = 0.6
TIREDNESS = 1.8
AGAIN_AT_ONCE = 6.0
_PURPOSE = 20
# Columns of the random numbers of a choice; those from _SONG on are one a candidate.
_CHOICE, _LANGUAGE, _GENRE, _ERA, _BY_MOOD, _FAVOURITE, _SONG = range(7)


@dataclass(frozen=True)
class Chooser:
    """Own choices on a day."""

    model: Model
    listeners: Listeners
    market: Market
    memory: Memory

    def choose(self, sessions: Sessions, keys: Array) -> tuple[Array, Array]:
        """Return the next song of each session and the surface it is met on."""
        chances = uniforms(keys, _PURPOSE, _SONG + CANDIDATES)
        songs = self.candidates(sessions, chances)
        worth = np.exp(self._worth(sessions, songs))
        cumulative = worth.cumsum(axis=1)
        chance = chances[:, _CHOICE] * cumulative[:, -1]
        # Rounding may put the chance on the total itself.
        chosen = pick(cumulative, np.minimum(chance, np.nextafter(cumulative[:, -1], 0.0)))
        return songs[np.arange(len(songs)), chosen], SURFACE[chosen]

    def candidates(self, sessions: Sessions, chances: Array) -> Array:
        """Return the songs that come to mind, (sessions, CANDIDATES), -1 where none does."""
        users, previous = sessions.user, sessions.previous
        catalogue = self.market.store.songs
        language = self._language(users, chances[:, _LANGUAGE])
        favourite = self._favourite(users, chances[:, _FAVOURITE])
        genre = self._genre(users, language, chances[:, _GENRE])
        bounds = np.cumsum(list(COUNTS.values()))[:-1]
        drawn = iter(np.split(chances[:, _SONG:], bounds, axis=1))
        picks = {
            "library": self._library(users, next(drawn)),
            "album": self._next_track(previous, next(drawn)),
            "artist": self._draw("artist", catalogue.artist[previous], next(drawn)),
            "favourite": self._draw("artist", favourite, next(drawn)),
            "context": self._context(sessions, language, chances[:, _BY_MOOD], next(drawn)),
            "neighbour": self.market.store.neighbours[
                previous[:, None], (next(drawn) * NEIGHBOURS).astype(np.int64)
            ],
            "taste": self._draw("genre", genre, next(drawn)),
            "era": self._draw("era", self._era(sessions, language, chances[:, _ERA]), next(drawn)),
            "popular": self._draw("language", language, next(drawn)),
        }
        songs = np.concatenate([picks[name] for name, _, _ in SOURCES], axis=1)
        return np.where(self.market.released[songs] & (songs >= 0), songs, -1)

    def _worth(self, sessions: Sessions, songs: Array) -> Array:
        """Return utility plus flow of each candidate; minus infinity for no candidate."""
        known = np.maximum(songs, 0)
        catalogue = self.market.store.songs
        users, previous = sessions.user[:, None], sessions.previous[:, None]
        columns = (sessions.occasion, sessions.mood, sessions.activity, sessions.daypart)
        context = (column[:, None] for column in columns)
        worth = self.model.affinity(users, known) + self.model.fit(known, *context)
        worth += np.repeat(_PULLS, list(COUNTS.values()))
        same_artist = catalogue.artist[known] == catalogue.artist[previous]
        pull = ARTIST_PULL[sessions.style] - RUN_WEARINESS * sessions.run
        worth += same_artist * pull[:, None]
        years = np.abs(catalogue.year[known] - catalogue.year[previous]) / 10.0
        worth -= np.minimum(years, 4.0) * ERA_PULL[sessions.style][:, None]
        beats = np.abs(catalogue.tempo[known] - catalogue.tempo[previous]) / 40.0
        worth -= TEMPO_PULL * np.minimum(beats, 2.0)
        worth -= TIREDNESS * self.memory.fatigue(sessions.user, known)
        worth -= AGAIN_AT_ONCE * (known == previous)
        return np.where(songs >= 0, worth, -np.inf)

    def _draw(self, shelf: str, group: Array, chances: Array) -> Array:
        return self.market.draw(shelf, np.broadcast_to(group[:, None], chances.shape), chances)

    def _library(self, users: Array, chances: Array) -> Array:
        strength = np.where(self.memory.library[users] >= 0, self.memory.strength[users], 0.0)
        sums = strength.cumsum(axis=1)
        aim = np.minimum(chances * sums[:, -1:], np.nextafter(sums[:, -1:], 0.0))
        slot = np.minimum((aim[:, :, None] >= sums[:, None, :]).sum(axis=2), LIBRARY - 1)
        return self.memory.library[users[:, None], slot].astype(np.int64)

    def _next_track(self, previous: Array, chances: Array) -> Array:
        album = self.market.store.songs.album
        following = np.minimum(previous + 1, len(album) - 1)
        same = (album[following] == album[previous]) & (following != previous)
        return np.broadcast_to(np.where(same, following, -1)[:, None], chances.shape)

    def _language(self, users: Array, chance: Array) -> Array:
        second = chance >= self.listeners.language_share[users, 0]
        return self.listeners.languages[users, second.astype(np.int64)]

    def _genre(self, users: Array, language: Array, chance: Array) -> Array:
        share = self.listeners.genre_share[users].cumsum(axis=1)
        which = pick(share, chance)
        return genre_shelf(language, self.listeners.genres[users, which])

    def _favourite(self, users: Array, chance: Array) -> Array:
        artists = self.listeners.favourites[users]
        which = (chance * artists.shape[1]).astype(np.int64)
        return artists[np.arange(len(users)), which]

    def _era(self, sessions: Sessions, language: Array, chance: Array) -> Array:
        """Return the shelf of the session's decade, or of the listener's teens."""
        teens = self.model.birth_year[sessions.user] + TEENS_MIDDLE
        going = self.market.store.songs.year[sessions.previous]
        stays = (sessions.style == STYLES.index("era")) | (chance < 0.6)
        decade = (np.where(stays, going, teens) - FIRST_DECADE) // 10
        return language * DECADES + np.clip(decade, 0, DECADES - 1)

    def _context(self, sessions: Sessions, language: Array, chance: Array, chances: Array) -> Array:
        """Look for songs for the occasion, or the mood, or both in turn; none without either."""
        languages = len(LANGUAGE_CODES)
        for_occasion = self._draw("occasion", sessions.occasion * languages + language, chances)
        for_mood = self._draw("mood", sessions.mood * languages + language, chances)
        by_mood = (sessions.occasion == 0) | ((sessions.mood > 0) & (chance < 0.35))
        found = np.where(by_mood[:, None], for_mood, for_occasion)
        without = (sessions.occasion == 0) & (sessions.mood == 0)
        return np.where(without[:, None], -1, found)


_PULLS = np.array(
    [
        {"library": LIBRARY_PULL, "album": ALBUM_PULL, "neighbour": NEIGHBOUR_PULL}.get(name, 0.0)
        for name, _, _ in SOURCES
    ]
)
