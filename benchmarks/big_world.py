"""A large catalogue and what is heard of it, drawn from heavy-tailed distributions.

What is drawn, and how:

* **plays** of a song: Pareto with exponent 1.1, so that a few thousand songs carry most plays;
* **styles**: one for about 40,000 songs (16 at least); a style's share falls as 1 / (k + 5);
* **scenes**: 32 in a style, whose shares of its artists are exponential;
* **artists**: one for 12 songs on average, their sizes Pareto with exponent 1.2, each of a scene;
* **taste** of a song, 64 numbers: its style's centre + its scene's offset (0.7 as wide) + its
  artist's (0.4) + its own noise (0.3), with variance falling over the dimensions, and longer the
  more it is played;
* **factors** of a signal: the taste turned by an orthogonal matrix of the signal, plus noise;
* **links** from song to song and **sessions**: within a style, a song at place p of P by plays
  drawn with p / P = u^3, u uniform; a song has about 4 plays^0.6 links, 200 at most;
* **listeners**: 128 songs of three styles, drawn in the same way.

Everything comes in blocks from one seed: memory stays bounded by a few arrays of one number a song.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.catalogue import FloatArray, IntArray

FACTORS: Final = 64
BLOCK: Final = 65_536
MOST_LINKS: Final = 200
SCENES: Final = 32
REGIONS: Final = (
    "Africa",
    "Americas",
    "East Asia",
    "Europe",
    "Middle East",
    "Oceania",
    "South Asia",
    "Southeast Asia",
)
LANGUAGES: Final = ("ar", "bn", "de", "en", "es", "fr", "hi", "ja", "ko", "pt")
MOODS: Final = ("calm", "dark", "energetic", "happy", "sad", "tender")


@dataclass(frozen=True)
class World:
    """What is drawn once for all songs.

    `style`, `artist`, `plays` are (songs,); `by_style` lists the songs style by style, the most
    played first, those of style k from `starts[k]` to `starts[k + 1]`.
    """

    seed: int
    style: IntArray
    artist: IntArray
    plays: IntArray
    by_style: IntArray
    starts: NDArray[np.int64]
    centres: FloatArray
    offsets: NDArray[np.float16]
    turns: FloatArray

    def __len__(self) -> int:
        """Return the number of songs."""
        return len(self.style)

    @property
    def artists(self) -> int:
        """Return the number of artists."""
        return len(self.offsets)

    def random(self, *key: int) -> np.random.Generator:
        """Return the generator of one purpose and block."""
        return np.random.default_rng((self.seed, *key))

    def within(self, styles: NDArray[Any], random: np.random.Generator) -> IntArray:
        """Draw one song of each style given, more often the more it is played."""
        size = self.starts[styles + 1] - self.starts[styles]
        place = (size * random.random(len(styles), dtype=np.float32) ** 3).astype(np.int64)
        return self.by_style[self.starts[styles] + np.minimum(place, size - 1)]

    def tastes(self, songs: NDArray[Any]) -> FloatArray:
        """Return the tastes of one block of songs, shape (songs, FACTORS)."""
        noise = self.random(1, int(songs[0])).standard_normal((len(songs), FACTORS), np.float32)
        taste = self.centres[self.style[songs]] + self.offsets[self.artist[songs]]
        taste += 0.3 * noise * fading()
        return taste * (0.3 + 0.1 * np.log1p(self.plays[songs]))[:, None].astype(np.float32)

    def factors(self) -> Iterator[FloatArray]:
        """Yield all signals' factors, block by block, shape (signals, songs, FACTORS)."""
        for songs in blocks(len(self)):
            random = self.random(2, int(songs[0]))
            # One draw of noise, turned for each signal: turned apart it is as good as independent.
            noise = random.standard_normal((len(songs), FACTORS), np.float32) * (0.05 * fading())
            taste = self.tastes(songs)
            yield np.array([taste @ turn + noise[:, ::step] for turn, step in self.turned()])

    def turned(self) -> Iterator[tuple[FloatArray, int]]:
        """Yield each signal's matrix, and the direction in which it reads the noise."""
        return ((turn, 1 if place % 2 else -1) for place, turn in enumerate(self.turns))


def world(songs: int, signals: int, seed: int) -> World:
    """Draw a world of so many songs."""
    random = np.random.default_rng(seed)
    count = max(16, songs // 40_000)
    share = 1 / (np.arange(count) + 5)
    artists = songs // 12 + 1
    artist_style = random.choice(count, artists, p=share / share.sum()).astype(np.int32)
    size = np.cumsum((1 - random.random(artists)) ** (-1 / 1.2))
    artist = np.searchsorted(size, random.random(songs) * size[-1]).astype(np.int32)
    plays = np.minimum((1 - random.random(songs)) ** (-1 / 1.1), 1e7).astype(np.int32)
    style = artist_style[artist]
    by_style = np.lexsort((-plays, style)).astype(np.int32)
    turns = [np.linalg.qr(random.standard_normal((FACTORS, FACTORS)))[0] for _ in range(signals)]
    normal = random.standard_normal
    scene = artist_style * SCENES + np.minimum(random.exponential(SCENES / 4, artists), SCENES - 1)
    scene = scene.astype(np.int32)
    scenes = normal((count * SCENES, FACTORS), np.float32)
    own = normal((artists, FACTORS), np.float32)
    return World(
        seed=seed,
        style=style,
        artist=artist,
        plays=plays,
        by_style=by_style,
        starts=np.concatenate([[0], np.cumsum(np.bincount(style, minlength=count))]),
        centres=normal((count, FACTORS), np.float32) * fading(),
        offsets=((0.7 * scenes[scene] + 0.4 * own) * fading()).astype(np.float16),
        turns=np.array(turns, dtype=np.float32),
    )


def fading() -> FloatArray:
    """Return the standard deviation of each dimension of a taste."""
    return (0.96 ** np.arange(FACTORS)).astype(np.float32)


def blocks(songs: int) -> Iterator[NDArray[np.int64]]:
    """Yield all songs in blocks."""
    for start in range(0, songs, BLOCK):
        yield np.arange(start, min(start + BLOCK, songs))


def link_counts(plays: IntArray) -> IntArray:
    """Return how many songs each is linked to."""
    return np.minimum(4 * plays.astype(np.float32) ** 0.6, MOST_LINKS).astype(np.int32)


def links(drawn: World, kind: int) -> Iterator[tuple[IntArray, FloatArray]]:
    """Yield linked songs and weights, block by block, the songs' rows one after the other."""
    for songs in blocks(len(drawn)):
        random = drawn.random(20 + kind, int(songs[0]))
        counts = link_counts(drawn.plays[songs])
        found = drawn.within(np.repeat(drawn.style[songs], counts), random)
        # The columns of a row ascend, as those of fitted links do.
        rows = np.repeat(np.arange(len(songs), dtype=np.int64), counts)
        ordered = np.sort((rows << 32) | found) & 0xFFFFFFFF
        yield ordered.astype(np.int32), random.random(len(found), np.float32)


def sessions(drawn: World, count: int) -> tuple[NDArray[np.int64], IntArray]:
    """Return the sessions' bounds and songs, in order of play."""
    random = drawn.random(30)
    lengths = random.integers(6, 19, count)
    style = drawn.style[drawn.by_style[random.integers(0, len(drawn), count)]]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return indptr, drawn.within(np.repeat(style, lengths), random)
