"""The catalogue: artists, albums and songs with their latent vectors.

Songs are numbered so that a language, a genre within it, an artist and an album are each one
contiguous run of numbers; ids are shuffled, so that they tell nothing.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time

import numpy as np
import pyarrow as pa

from features.columns import Song
from features.times import DAY_US, microseconds
from simulation import names
from simulation.draws import Array
from simulation.sizes import Size
from simulation.vocabulary import (
    FESTIVAL_LANGUAGES,
    FESTIVALS,
    GENRE_AUDIO,
    GENRE_SHARES,
    GENRES,
    LANGUAGE_CODES,
    LANGUAGES,
    MOOD_AUDIO,
    MOODS,
    OCCASIONS,
    shares,
)

DIMENSIONS = 16
SONGS_PER_ARTIST = 12
SONGS_PER_ALBUM = 9
NEW_SHARE = 0.08
FESTIVAL_SHARE = 0.035
MOOD_TAGGED = 0.25
OCCASION_TAGGED = 0.4


@dataclass(frozen=True)
class Songs:
    """The catalogue as columns, one entry a song; `vector` is (songs, DIMENSIONS), unit length."""

    ids: Array
    language: Array
    genre: Array
    artist: Array
    album: Array
    year: Array
    released_us: Array
    duration_ms: Array
    tempo: Array
    audio: Array
    vector: Array
    popularity: Array
    occasion: Array
    mood: Array

    def __len__(self) -> int:
        """Return the number of songs."""
        return len(self.language)


@dataclass(frozen=True)
class Artists:
    """Artists in song order: home shelf, latent vector, fame and first year."""

    language: Array
    genre: Array
    vector: Array
    fame: Array
    first_year: Array


def midnight_us(day: date) -> int:
    """Return a date's first microsecond (UTC) since 1970."""
    return microseconds(datetime.combine(day, time(), tzinfo=UTC))


def genre_centres(rng: np.random.Generator) -> Array:
    """Draw one unit vector a genre, shape (genres, DIMENSIONS)."""
    return unit(rng.normal(size=(len(GENRES), DIMENSIONS)))


def unit(vectors: Array) -> Array:
    """Scale rows to length one."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def draw_artists(size: Size, centres: Array, rng: np.random.Generator) -> Artists:
    """Draw the artists, sorted by language and genre."""
    count = max(size.songs // SONGS_PER_ARTIST, 2 * len(LANGUAGE_CODES))
    catalogue = shares([share for share, _ in LANGUAGES.values()])
    language = rng.choice(len(LANGUAGE_CODES), size=count, p=catalogue)
    genre = rng.choice(len(GENRES), size=count, p=GENRE_SHARES)
    order = np.lexsort((genre, language))
    language, genre = language[order], genre[order]
    noise = unit(rng.normal(size=(count, DIMENSIONS)))
    vector = unit(centres[genre] + 0.75 * noise)
    fame = rng.normal(0.0, 1.1, size=count)
    age = rng.gamma(1.6, 9.0, size=count).astype(np.int64)
    first_year = np.maximum(size.end.year - age, 1955)
    return Artists(language, genre, vector, fame, first_year)


def draw_songs(size: Size, centres: Array, rng: np.random.Generator) -> tuple[Songs, pa.Table]:
    """Draw the catalogue.

    Returns
    -------
    songs : Songs
        What the simulation works with, latent vectors and popularity included.
    table : pyarrow.Table
        What the world sees: the columns `Song.ORDER`.
    """
    artists = draw_artists(size, centres, rng)
    artist = _share_out(size.songs, artists.fame, rng)
    album, year = _albums(artist, artists.first_year, size.end.year, rng)
    released_us = _releases(album, year, size, rng)
    year = _year_of(released_us)
    genre, language = artists.genre[artist], artists.language[artist]
    tempo, audio = _audio(genre, rng)
    occasion = _occasions(language, tempo, audio, rng)
    age = np.maximum(size.end.year - year, 0)
    songs = Songs(
        ids=np.array([f"s{number:07d}" for number in rng.permutation(size.songs)]),
        language=language,
        genre=genre,
        artist=artist,
        album=album,
        year=year,
        released_us=released_us,
        duration_ms=(rng.lognormal(np.log(212.0), 0.24, size.songs) * 1000).astype(np.int64),
        tempo=tempo,
        audio=audio,
        vector=unit(
            artists.vector[artist] + 0.45 * unit(rng.normal(size=(size.songs, DIMENSIONS)))
        ).astype(np.float32),
        popularity=artists.fame[artist] + rng.normal(0.0, 0.8, size.songs) - age / 25.0,
        occasion=occasion,
        mood=_nearest_mood(audio),
    )
    return songs, _song_table(songs, rng)


def _share_out(total: int, fame: Array, rng: np.random.Generator) -> Array:
    """Give every artist a song and share out the rest, more to the famous."""
    weights = shares(np.exp(0.5 * fame) * rng.gamma(2.0, size=len(fame)))
    counts = 1 + rng.multinomial(total - len(fame), weights)
    return np.repeat(np.arange(len(fame)), counts)


def _albums(
    artist: Array, first_year: Array, last_year: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Cut each artist's songs into albums in order of years; return album and year a song."""
    starts = np.flatnonzero(np.r_[True, artist[1:] != artist[:-1]])
    rank = np.arange(len(artist)) - np.repeat(starts, np.diff(np.r_[starts, len(artist)]))
    new_album = (rank == 0) | (rng.random(len(artist)) < 1.0 / SONGS_PER_ALBUM)
    album = np.cumsum(new_album) - 1
    pauses = np.where(new_album & (rank > 0), rng.integers(1, 5, size=len(artist)), 0)
    passed = np.cumsum(pauses)
    since_first = (
        passed - passed[starts][np.searchsorted(starts, np.arange(len(artist)), "right") - 1]
    )
    return album, np.minimum(first_year[artist] + since_first, last_year - 1)


def _releases(album: Array, year: Array, size: Size, rng: np.random.Generator) -> Array:
    """Release albums on a day of their year, and the newest share of them during the period."""
    count = int(album[-1]) + 1
    album_year = year[np.searchsorted(album, np.arange(count))]
    january = np.array([midnight_us(date(y, 1, 1)) for y in range(1950, 2101)])
    released = january[album_year - 1950] + rng.integers(0, 365 * DAY_US, size=count)
    start, end = midnight_us(size.start), midnight_us(size.end)
    fresh = rng.random(count) < NEW_SHARE
    released = np.where(fresh, rng.integers(start, end, size=count), released)
    early = start - rng.integers(DAY_US, 300 * DAY_US, size=count)
    return np.where(~fresh & (released >= start), early, released)[album]


def _year_of(moment_us: Array) -> Array:
    return moment_us.astype("datetime64[us]").astype("datetime64[Y]").astype(np.int64) + 1970


def _audio(genre: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return tempo in bpm and (energy, valence, danceability, acousticness) in [0, 1]."""
    tempo = np.clip(GENRE_AUDIO[genre, 0] + rng.normal(0.0, 18.0, len(genre)), 55, 205)
    audio = GENRE_AUDIO[genre, 1:] + rng.normal(0.0, 0.16, (len(genre), 4))
    return tempo, np.clip(audio, 0.01, 0.99)


def _occasions(language: Array, tempo: Array, audio: Array, rng: np.random.Generator) -> Array:
    """Make a few songs festival songs; among the others, mark what suits which purpose."""
    energy, _, dance, acoustic = audio.T
    occasion = np.zeros(len(language), dtype=np.int64)
    chance = rng.random(len(language))
    occasion[chance < 0.12] = OCCASIONS.index("commute")
    occasion[(energy > 0.72) & (tempo > 122)] = OCCASIONS.index("workout")
    occasion[(dance > 0.74) & (energy > 0.55)] = OCCASIONS.index("party")
    occasion[(energy < 0.28) & (acoustic > 0.5)] = OCCASIONS.index("sleep")
    for code, name in enumerate(LANGUAGE_CODES):
        sung = [OCCASIONS.index(f) for f in FESTIVALS if name in FESTIVAL_LANGUAGES[f]]
        festive = np.flatnonzero((language == code) & (rng.random(len(language)) < FESTIVAL_SHARE))
        if sung:
            # The first of a language's festivals is its greatest, and has half of the songs.
            weights = shares(0.5 ** np.minimum(np.arange(len(sung)), 2))
            occasion[festive] = rng.choice(sung, size=len(festive), p=weights)
    return occasion


def _nearest_mood(audio: Array) -> Array:
    points = audio[:, [0, 1, 3]]
    distance = ((points[:, None, :] - MOOD_AUDIO[None, 1:, :]) ** 2).sum(axis=2)
    return 1 + distance.argmin(axis=1)


def _song_table(songs: Songs, rng: np.random.Generator) -> pa.Table:
    acts = _act_names(songs, rng)
    language = [LANGUAGE_CODES[i] for i in songs.language]
    albums = [names.title(language[i], rng) for i in np.unique(songs.album, return_index=True)[1]]
    festive = [OCCASIONS[o] if OCCASIONS[o] in FESTIVALS else "" for o in songs.occasion]
    tagged = rng.random((2, len(songs)))
    moods = [
        [MOODS[m]] if t < MOOD_TAGGED else [] for m, t in zip(songs.mood, tagged[0], strict=True)
    ]
    occasions = [
        [OCCASIONS[o]] if o and t < OCCASION_TAGGED else []
        for o, t in zip(songs.occasion, tagged[1], strict=True)
    ]
    writers = {code: [names.person(code, rng) for _ in range(40)] for code in LANGUAGE_CODES}
    columns = {
        Song.ID: pa.array(songs.ids.tolist(), pa.string()),
        Song.TITLE: pa.array(
            [names.title(c, rng, f) for c, f in zip(language, festive, strict=True)]
        ),
        Song.ARTISTS: pa.array(_credits(songs, acts, rng), pa.list_(pa.string())),
        Song.BAND: pa.array([acts[a][1] for a in songs.artist], pa.string()),
        Song.COMPOSER: pa.array([writers[c][int(rng.integers(40))] for c in language]),
        Song.ALBUM: pa.array([albums[a] for a in songs.album]),
        Song.RELEASE_YEAR: pa.array(songs.year, pa.int32()),
        Song.RELEASED_TS: pa.array(songs.released_us, pa.timestamp("us", tz="UTC")),
        Song.LANGUAGE: pa.array(language),
        Song.REGION: pa.array([LANGUAGES[c][1] for c in language]),
        Song.GENRES: pa.array([[GENRES[g]] for g in songs.genre], pa.list_(pa.string())),
        Song.DURATION_MS: pa.array(songs.duration_ms, pa.int64()),
        Song.TEMPO: pa.array(songs.tempo.round(1), pa.float64()),
        **{
            name: pa.array(songs.audio[:, i].round(3), pa.float64())
            for i, name in enumerate(Song.AUDIO[1:])
        },
        Song.MOODS: pa.array(moods, pa.list_(pa.string())),
        Song.OCCASIONS: pa.array(occasions, pa.list_(pa.string())),
    }
    return pa.table({name: columns[name] for name in Song.ORDER})


def _act_names(songs: Songs, rng: np.random.Generator) -> list[tuple[str, str | None]]:
    """Name every artist once: (name credited, band or None)."""
    acts: list[tuple[str, str | None]] = []
    taken: set[str] = set()
    for first in np.unique(songs.artist, return_index=True)[1]:
        language = LANGUAGE_CODES[songs.language[first]]
        is_band = rng.random() < 0.4
        name = names.band(language, rng) if is_band else names.person(language, rng)
        while name in taken:
            name = f"{name} {names.word(language, rng)}"
        taken.add(name)
        acts.append((name, name if is_band else None))
    return acts


def _credits(
    songs: Songs, acts: list[tuple[str, str | None]], rng: np.random.Generator
) -> list[list[str]]:
    """Credit the artist, and on one song in twelve a guest of the same language."""
    guests = rng.random(len(songs)) < 1 / 12
    edges = np.searchsorted(songs.language, np.arange(len(LANGUAGE_CODES) + 1))
    low, high = edges[songs.language], edges[songs.language + 1]
    guest = songs.artist[rng.integers(low, high)]
    return [
        [acts[a][0], acts[g][0]] if with_guest and g != a else [acts[a][0]]
        for a, g, with_guest in zip(songs.artist, guest, guests, strict=True)
    ]
