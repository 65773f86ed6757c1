"""Listeners: who they are, what they like, how they live."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from features.columns import User
from features.times import DAY_US
from simulation.draws import Array
from simulation.sizes import Size
from simulation.songs import DIMENSIONS, Songs, midnight_us, unit
from simulation.vocabulary import (
    COUNTRIES,
    COUNTRY_CODES,
    GENRE_SHARES,
    GENRES,
    LANGUAGE_CODES,
    shares,
)

NEW_SHARE = 0.2
FAVOURITES = 3
GENRES_EACH = 3
CHRONOTYPES = 4
# How well a language is liked: first, second, English as everybody's half-known one, others.
FIRST, SECOND, ENGLISH, UNKNOWN = 1.0, 0.6, -0.2, -1.6


@dataclass(frozen=True)
class Listeners:
    """Listeners as columns, one entry a listener.

    `taste` is (listeners, DIMENSIONS) of unit length, `language_liking` (listeners, languages),
    `languages` and `genres` hold choices with the shares `*_share` beside them, `favourites`
    artist numbers.
    """

    ids: Array
    signup_us: Array
    birth_year: Array
    country: Array
    utc_offset: Array
    chronotype: Array
    rate: Array
    taste: Array
    languages: Array
    language_share: Array
    language_liking: Array
    genres: Array
    genre_share: Array
    favourites: Array

    def __len__(self) -> int:
        """Return the number of listeners."""
        return len(self.country)


def draw_listeners(
    size: Size, songs: Songs, centres: Array, artist_names: list[str], rng: np.random.Generator
) -> tuple[Listeners, pa.Table]:
    """Draw the listeners.

    Returns
    -------
    listeners : Listeners
        What the simulation works with, latent tastes included.
    table : pyarrow.Table
        What the world sees: the columns `User.ORDER`.
    """
    count = size.listeners
    country = rng.choice(
        len(COUNTRY_CODES), size=count, p=shares([c.share for c in COUNTRIES.values()])
    )
    languages, language_share, liking = _languages(country, rng)
    genres, genre_share = _genres(count, rng)
    taste = np.einsum("ug,ugd->ud", genre_share, centres[genres])
    taste = unit(unit(taste) + 0.7 * unit(rng.normal(size=(count, DIMENSIONS))))
    listeners = Listeners(
        ids=np.array([f"u{number:07d}" for number in rng.permutation(count)]),
        signup_us=_signups(size, rng),
        birth_year=size.end.year - np.clip(14 + rng.gamma(2.2, 8.0, count), 14, 80).astype(int),
        country=country,
        utc_offset=_offsets(country, rng),
        chronotype=rng.integers(CHRONOTYPES, size=count),
        rate=size.sessions_per_day * rng.gamma(1.6, 1 / 1.6, count),
        taste=taste.astype(np.float32),
        languages=languages,
        language_share=language_share,
        language_liking=liking,
        genres=genres,
        genre_share=genre_share,
        favourites=_favourites(songs, taste, liking, rng),
    )
    return listeners, _user_table(listeners, artist_names)


def _signups(size: Size, rng: np.random.Generator) -> Array:
    """Spread sign-ups over the years before, and those of `NEW_SHARE` over the period."""
    start, end = midnight_us(size.start), midnight_us(size.end)
    before = start - (rng.exponential(400.0, size.listeners) * DAY_US).astype(np.int64) - DAY_US
    during = rng.integers(start, end - DAY_US, size=size.listeners)
    return np.where(rng.random(size.listeners) < NEW_SHARE, during, before)


def _offsets(country: Array, rng: np.random.Generator) -> Array:
    """Return minutes from UTC, one of the country's; summer time is left out."""
    zones = [COUNTRIES[code].utc_offsets for code in COUNTRY_CODES]
    return np.array([zones[c][int(rng.integers(len(zones[c])))] for c in country])


def _languages(country: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return languages listened to (n, 2), their shares (n, 2) and the liking of all (n, L)."""
    english = LANGUAGE_CODES.index("en")
    spoken = [COUNTRIES[code].languages for code in COUNTRY_CODES]
    first = np.array(
        [
            LANGUAGE_CODES.index(
                spoken[c][int(rng.choice(len(spoken[c]), p=[s for _, s in spoken[c]]))][0]
            )
            for c in country
        ]
    )
    at_home = np.array([LANGUAGE_CODES.index(spoken[c][0][0]) for c in country])
    # A second language is English for most, or the country's own for its minorities.
    second = np.where(
        first == english, first, np.where(rng.random(len(country)) < 0.7, english, first)
    )
    second = np.where((first != at_home) & (first != english), at_home, second)
    share = np.where(second == first, 1.0, rng.uniform(0.5, 0.85, len(country)))
    liking = np.full((len(country), len(LANGUAGE_CODES)), UNKNOWN)
    liking[:, english] = ENGLISH
    rows = np.arange(len(country))
    liking[rows, second] = SECOND
    liking[rows, first] = FIRST
    return np.stack([first, second], 1), np.stack([share, 1 - share], 1), liking.astype(np.float32)


def _genres(count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return each listener's genres, dearest first, and their shares, both (n, GENRES_EACH)."""
    # Gumbel noise on log shares draws without replacement.
    scores = np.log(GENRE_SHARES) + rng.gumbel(size=(count, len(GENRES)))
    genres = np.argsort(-scores, axis=1)[:, :GENRES_EACH]
    weights = -np.sort(-rng.dirichlet([1.5] * GENRES_EACH, count), axis=1)
    return genres, weights


def _favourites(songs: Songs, taste: Array, liking: Array, rng: np.random.Generator) -> Array:
    """Pick artists by taste, language and fame, with chance; those with songs out already."""
    first = np.unique(songs.artist, return_index=True)[1]
    fame = songs.popularity[first]
    picked = np.empty((len(taste), FAVOURITES), dtype=np.int64)
    for low in range(0, len(taste), 2_000):
        block = slice(low, low + 2_000)
        score = 5.0 * taste[block] @ songs.vector[first].T + 0.6 * fame
        score += 2.0 * liking[block][:, songs.language[first]]
        score += rng.gumbel(size=score.shape)
        picked[block] = np.argsort(-score, axis=1)[:, :FAVOURITES]
    return picked


def _user_table(listeners: Listeners, artist_names: list[str]) -> pa.Table:
    codes = [COUNTRY_CODES[c] for c in listeners.country]
    known = [
        [LANGUAGE_CODES[first]]
        if first == second
        else [LANGUAGE_CODES[first], LANGUAGE_CODES[second]]
        for first, second in listeners.languages
    ]
    columns = {
        User.ID: pa.array(listeners.ids.tolist(), pa.string()),
        User.SIGNUP_TS: pa.array(listeners.signup_us, pa.timestamp("us", tz="UTC")),
        User.BIRTH_YEAR: pa.array(listeners.birth_year, pa.int32()),
        User.COUNTRY: pa.array(codes),
        User.REGION: pa.array([COUNTRIES[code].region for code in codes]),
        User.UTC_OFFSET: pa.array(listeners.utc_offset, pa.int32()),
        User.LANGUAGES: pa.array(known, pa.list_(pa.string())),
        User.FAVOURITE_ARTISTS: pa.array(
            [[artist_names[a] for a in row] for row in listeners.favourites], pa.list_(pa.string())
        ),
    }
    return pa.table({name: columns[name] for name in User.ORDER})
