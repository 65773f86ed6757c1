"""The made-up world's fixed tables: places, languages, genres, contexts.

All shares here are plausible inventions, not estimates. Index 0 of a context means "none".
"""

from dataclasses import dataclass

import numpy as np

from simulation.draws import Array


@dataclass(frozen=True)
class Country:
    """Where listeners live: share of listeners, offsets in minutes, (language, share) pairs."""

    region: str
    share: float
    utc_offsets: tuple[int, ...]
    languages: tuple[tuple[str, float], ...]


COUNTRIES = {
    "US": Country("North America", 20, (-300, -360, -480), (("en", 0.85), ("es", 0.15))),
    "GB": Country("Europe", 8, (0,), (("en", 1.0),)),
    "DE": Country("Europe", 8, (60,), (("de", 0.75), ("en", 0.15), ("tr", 0.1))),
    "FR": Country("Europe", 6, (60,), (("fr", 0.9), ("ar", 0.1))),
    "ES": Country("Europe", 4, (60,), (("es", 1.0),)),
    "MX": Country("Latin America", 8, (-360,), (("es", 1.0),)),
    "BR": Country("Latin America", 9, (-180,), (("pt", 1.0),)),
    "IN": Country("South Asia", 17, (330,), (("hi", 0.7), ("ta", 0.3))),
    "ID": Country("Southeast Asia", 6, (420, 480), (("id", 1.0),)),
    "KR": Country("East Asia", 5, (540,), (("ko", 1.0),)),
    "TW": Country("East Asia", 3, (480,), (("zh", 1.0),)),
    "TR": Country("Middle East", 4, (180,), (("tr", 1.0),)),
    "EG": Country("Middle East", 2, (120,), (("ar", 1.0),)),
}

# language -> (share of the catalogue, region its songs come from)
LANGUAGES = {
    "en": (36, "North America"),
    "de": (6, "Europe"),
    "fr": (6, "Europe"),
    "es": (12, "Latin America"),
    "pt": (8, "Latin America"),
    "hi": (11, "South Asia"),
    "ta": (5, "South Asia"),
    "id": (4, "Southeast Asia"),
    "ko": (4, "East Asia"),
    "zh": (3, "East Asia"),
    "tr": (3, "Middle East"),
    "ar": (2, "Middle East"),
}

GENRES = (
    "pop", "rock", "hip hop", "electronic", "r&b", "folk", "jazz", "classical", "metal", "film",
)  # fmt: skip
GENRE_SHARES = np.array([24, 15, 15, 11, 9, 7, 4, 4, 4, 7]) / 100
# tempo (bpm), energy, valence, danceability, acousticness of each genre's middle
GENRE_AUDIO = np.array([
    [116, 0.65, 0.60, 0.66, 0.22],
    [128, 0.76, 0.50, 0.48, 0.14],
    [ 94, 0.66, 0.52, 0.76, 0.14],
    [126, 0.80, 0.48, 0.74, 0.06],
    [ 98, 0.52, 0.54, 0.66, 0.30],
    [104, 0.36, 0.46, 0.46, 0.74],
    [108, 0.34, 0.52, 0.50, 0.72],
    [ 92, 0.18, 0.30, 0.26, 0.92],
    [138, 0.92, 0.32, 0.38, 0.04],
    [108, 0.50, 0.56, 0.58, 0.44],
])  # fmt: skip

MOODS = ("", "calm", "happy", "sad", "energetic", "romantic", "focused")
# energy, valence, acousticness a mood asks for
MOOD_AUDIO = np.array([
    [0.50, 0.50, 0.50],
    [0.25, 0.50, 0.70],
    [0.65, 0.85, 0.20],
    [0.30, 0.18, 0.60],
    [0.90, 0.60, 0.05],
    [0.42, 0.60, 0.50],
    [0.40, 0.45, 0.55],
])  # fmt: skip

ACTIVITIES = (
    "", "working", "commuting", "exercising", "relaxing", "partying", "sleeping", "cooking",
)  # fmt: skip
# energy an activity asks for, and how much it matters
ACTIVITY_ENERGY = np.array([0.50, 0.45, 0.60, 0.90, 0.35, 0.80, 0.12, 0.60])
ACTIVITY_WEIGHT = np.array([0.0, 0.5, 0.4, 1.0, 0.6, 1.0, 1.2, 0.3])

FESTIVALS = (
    "christmas", "diwali", "eid", "holi", "lunar_new_year", "new_year",
    "halloween", "thanksgiving", "carnival", "easter", "valentines",
)  # fmt: skip
PURPOSES = ("party", "workout", "commute", "sleep")
OCCASIONS = ("", *FESTIVALS, *PURPOSES)
# languages in which a festival has songs of its own
FESTIVAL_LANGUAGES = {
    "christmas": ("en", "de", "fr", "es", "pt", "ko"),
    "diwali": ("hi", "ta"),
    "eid": ("ar", "tr", "id", "hi"),
    "holi": ("hi",),
    "lunar_new_year": ("zh", "ko", "id"),
    "new_year": ("en", "es", "de"),
    "halloween": ("en",),
    "thanksgiving": ("en",),
    "carnival": ("pt", "de"),
    "easter": ("en", "es"),
    "valentines": ("en", "es", "fr"),
}
PURPOSE_OF_ACTIVITY = {
    "partying": "party", "exercising": "workout", "commuting": "commute", "sleeping": "sleep",
}  # fmt: skip

DEVICES = ("phone", "desktop", "speaker", "car", "tv")
SURFACES = ("library", "search", "radio", "recommended")
STYLES = ("mixed", "artist", "era")
VARIANTS = ("popular", "personal")
MODEL_VERSIONS = ("sim-popular-1", "sim-personal-1")

LANGUAGE_CODES = tuple(LANGUAGES)
COUNTRY_CODES = tuple(COUNTRIES)


def shares(values: list[float] | Array) -> Array:
    """Return values scaled to sum to one."""
    array = np.asarray(values, dtype=np.float64)
    return array / array.sum()
