"""Session neighbours: SKNN, V-SKNN, STAN and VSTAN, as their papers define them.

SKNN     Jannach and Ludewig, RecSys 2017: the cosine of sets; a song's score is the sum of the
         similarities of the neighbours that hold it.
V-SKNN   Ludewig and Jannach, UMUAI 2018: the session's later songs weigh more in the similarity;
         a neighbour counts less the further back the last shared song; rare songs count more.
STAN     Garg et al., SIGIR 2019: exponential weights by place in the session, by the age of the
         neighbour, and by the distance to the shared song within the neighbour.
VSTAN    Ludewig, Latifi et al., UMUAI 2021: STAN with V-SKNN's last two weights.

In all of them a song has the place at which it came last in its session, and the session's
songs may themselves be proposed (the repeat policy decides). The settings say where a family
member differs; `None` or an infinite value switches a weight off.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.peers.data import DAY, IntArray, Plays, Query
from benchmarks.peers.ranking import Tops, best_of, joined, percentiles, popularity
from training.metrics import Floats


@dataclass(frozen=True)
class Sessions:
    """Past sessions: each one's songs once, at their last place, and the sessions of each song."""

    songs: IntArray
    places: IntArray
    starts: IntArray
    ended: Floats
    of_song: IntArray
    of_song_starts: IntArray
    idf: Floats

    @classmethod
    def of(cls, plays: Plays) -> "Sessions":
        """Index plays, which are sorted by session and time."""
        sizes = np.bincount(plays.session, minlength=plays.sessions)
        first = np.concatenate([[0], np.cumsum(sizes)])
        place = np.arange(len(plays.song)) - first[plays.session] + 1
        order = np.lexsort((place, plays.song, plays.session))
        key = plays.session[order] * plays.songs + plays.song[order]
        last = order[np.append(key[1:] != key[:-1], True)]
        session, song = plays.session[last], plays.song[last]
        by_song = np.lexsort((-session, song))
        held = np.bincount(song, minlength=plays.songs)
        return cls(
            songs=song,
            places=place[last],
            starts=bounds(session, plays.sessions),
            ended=plays.ts[first[1:] - 1],
            of_song=session[by_song],
            of_song_starts=bounds(song[by_song], plays.songs),
            idf=np.log(plays.sessions / np.maximum(held, 1)),
        )

    def sizes(self, sessions: IntArray) -> IntArray:
        """Return how many distinct songs sessions hold."""
        return self.starts[sessions + 1] - self.starts[sessions]

    def holding(self, song: int) -> IntArray:
        """Return the sessions that hold a song, the latest first."""
        return self.of_song[self.of_song_starts[song] : self.of_song_starts[song + 1]]

    def rows(self, sessions: IntArray) -> tuple[IntArray, IntArray]:
        """Return the rows of `songs` and `places` of sessions, and which session each is of."""
        sizes = self.sizes(sessions)
        owner = np.repeat(np.arange(len(sessions)), sizes)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self.starts[sessions][owner] + within, owner


def bounds(sorted_keys: IntArray, size: int) -> IntArray:
    """Return where each key's span starts, shape (size + 1,)."""
    return np.searchsorted(sorted_keys, np.arange(size + 1))


@dataclass
class SessionNeighbours:
    """What the family shares: find the sessions that share a song, weigh them, add them up.

    `fill` tops a short session up from the listener's history. `sample` keeps the latest sessions
    among those that share a song, `k` the most similar of them.
    """

    fill: int = 10
    sample: int = 1000
    k: int = 100
    sessions_: Sessions = field(init=False, repr=False)
    popularity_: Floats = field(init=False, repr=False)

    def fit(self, plays: Plays) -> "SessionNeighbours":
        """Index the past sessions."""
        self.sessions_ = Sessions.of(plays)
        self.popularity_ = percentiles(popularity(plays))
        return self

    def tops(self, queries: Sequence[Query]) -> Tops:
        """Return the best songs of each query's neighbours."""
        return joined([self.one(query) for query in queries])

    def one(self, query: Query) -> Tops:
        """Return one query's best songs."""
        return best_of(*self.scores(query), self.popularity_)

    def scores(self, query: Query) -> tuple[IntArray, Floats]:
        """Return the neighbours' songs, each once, and their scores."""
        context = query.context(self.fill)
        place = {int(song): i for i, song in enumerate(context, start=1)}
        songs, places = np.array(list(place), int), np.array(list(place.values()), int)
        weights = self.session_weights(places, len(context))
        near, similarity = self.neighbours(query, songs, weights)
        rows, owner = self.sessions_.rows(near)
        held, at = self.sessions_.songs[rows], self.sessions_.places[rows]
        shared_place, shared_at = last_shared(held, at, owner, len(near), place)
        values = similarity[owner]
        values = values * self.match_weights(shared_place, len(context))[owner]
        values = values * self.distance_weights(np.abs(at - shared_at[owner]))
        values = values * self.song_weights(held)
        found, index = np.unique(held, return_inverse=True)
        return found, np.bincount(index, values, len(found)).astype(np.float64)

    def neighbours(self, query: Query, songs: IntArray, weights: Floats) -> tuple[IntArray, Floats]:
        """Return the nearest past sessions and their similarities."""
        lists = [self.sessions_.holding(int(song)) for song in songs]
        if not lists:
            return np.empty(0, dtype=np.int64), np.empty(0)
        counts = [len(sessions) for sessions in lists]
        found, index = np.unique(np.concatenate(lists), return_inverse=True)
        dots = np.bincount(index, np.repeat(weights, counts), len(found)).astype(np.float64)
        # Sessions are numbered by their end, so the last ones are the latest.
        found, dots = found[-self.sample :], dots[-self.sample :]
        similarity = self.similarity(dots, weights, self.sessions_.sizes(found))
        similarity = similarity * self.age_weights(query.ts - self.sessions_.ended[found])
        order = np.argsort(-similarity, kind="stable")[: self.k]
        return found[order], similarity[order]

    def similarity(self, dots: Floats, weights: Floats, sizes: IntArray) -> Floats:
        """Return the cosine of the weighted session and the neighbours' sets."""
        norm = np.sqrt((weights**2).sum()) * np.sqrt(sizes)
        return dots / np.maximum(norm, 1e-300)

    def session_weights(self, places: IntArray, length: int) -> Floats:
        """Return the weights of the session's songs, at places from 1, in the similarity."""
        return np.ones(len(places))

    def age_weights(self, age_seconds: Floats) -> Floats:
        """Return the weights of neighbours by the time since they ended."""
        return np.ones(len(age_seconds))

    def match_weights(self, places: IntArray, length: int) -> Floats:
        """Return the weights of neighbours by the place of the last shared song."""
        return np.ones(len(places))

    def distance_weights(self, distances: IntArray) -> Floats:
        """Return the weights of songs by their distance to the shared song in the neighbour."""
        return np.ones(len(distances))

    def song_weights(self, songs: IntArray) -> Floats:
        """Return the weights of songs as such."""
        return np.ones(len(songs))


def last_shared(
    held: IntArray, at: IntArray, owner: IntArray, count: int, place: dict[int, int]
) -> tuple[IntArray, IntArray]:
    """Return each neighbour's last shared song: its place in the session and in the neighbour.

    "Last" is by the place in the running session.
    """
    here = np.array([place.get(song, 0) for song in held.tolist()], dtype=np.int64)
    order = np.lexsort((here, owner))
    ends = np.searchsorted(owner[order], np.arange(count), side="right") - 1
    rows = order[ends]
    return here[rows], at[rows]


class Sknn(SessionNeighbours):
    """Session neighbours by the cosine of sets."""


def place_decay(shape: str, places: IntArray, length: int) -> Floats:
    """Return the weights of places 1 to `length`, the last worth most."""
    back = length - places
    return {
        "same": np.ones(len(places)),
        "div": places / length,
        "linear": np.maximum(1 - 0.1 * back, 0),
        "quadratic": (places / length) ** 2,
        "log": 1 / np.log10(back + 1.7),
    }[shape]


def step_decay(shape: str, steps: IntArray) -> Floats:
    """Return the weights of steps back from the session's end, from 1."""
    return {
        "same": np.ones(len(steps)),
        "div": 1 / steps,
        "linear": np.maximum(1 - 0.1 * steps, 0),
        "quadratic": 1 / steps**2,
        "log": 1 / np.log10(steps + 1.7),
    }[shape]


@dataclass
class VSknn(SessionNeighbours):
    """SKNN with weights by place, in the similarity and for the match, and by rarity."""

    weighting: str = "div"
    weighting_score: str = "div"
    idf: float = 0.0

    def similarity(self, dots: Floats, weights: Floats, sizes: IntArray) -> Floats:
        """Return the dot product over the session's length."""
        return dots / max(len(weights), 1)

    def session_weights(self, places: IntArray, length: int) -> Floats:
        """Return the decay by place."""
        return place_decay(self.weighting, places, length)

    def match_weights(self, places: IntArray, length: int) -> Floats:
        """Return the decay by steps from the session's end."""
        return step_decay(self.weighting_score, length - places + 1)

    def song_weights(self, songs: IntArray) -> Floats:
        """Return 1 + idf × log(sessions / sessions with the song)."""
        return 1 + self.idf * self.sessions_.idf[songs]


@dataclass
class Stan(SessionNeighbours):
    """Sequence and time aware neighbours; the λ are in places, days and places."""

    lambda_place: float = 1.0
    lambda_days: float = 100.0
    lambda_distance: float = 2.0

    def session_weights(self, places: IntArray, length: int) -> Floats:
        """Return exp((place - length) / λ)."""
        return np.exp((places - length) / self.lambda_place)

    def similarity(self, dots: Floats, weights: Floats, sizes: IntArray) -> Floats:
        """Return the dot product over the roots of both lengths."""
        return dots / np.sqrt(np.maximum(len(weights) * sizes, 1))

    def age_weights(self, age_seconds: Floats) -> Floats:
        """Return exp(-age / λ)."""
        return np.exp(-np.maximum(age_seconds, 0) / (self.lambda_days * DAY))

    def distance_weights(self, distances: IntArray) -> Floats:
        """Return exp(-distance / λ)."""
        return np.exp(-distances / self.lambda_distance)


@dataclass
class Vstan(Stan):
    """STAN with the match's place (λ in places) and the songs' rarity weighed as well."""

    lambda_match: float = 1.0
    idf: float = 5.0

    def match_weights(self, places: IntArray, length: int) -> Floats:
        """Return exp((place - length) / λ) of the last shared song."""
        return np.exp((places - length) / self.lambda_match)

    def song_weights(self, songs: IntArray) -> Floats:
        """Return 1 + idf × log(sessions / sessions with the song)."""
        return 1 + self.idf * self.sessions_.idf[songs]
