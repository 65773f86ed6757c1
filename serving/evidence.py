"""What the ranker saw in a song: by how much its score falls when a kind of evidence is taken away.

Features are taken away by kind, all of a kind together, and become "not known"; the ranker then
judges again. That is what a reason claims, and with ten songs it costs a tenth of TreeSHAP.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.catalogue import FloatArray
from serving.ranker import Ranker

# Kind of evidence -> the generators (score and rank) and the pair features that carry it.
GENERATORS: Final[Mapping[str, Sequence[str]]] = {
    "own": ("repeats", "loops"),
    "artist": ("artists",),
    "trend": ("trending",),
    "taste": ("like", "playlist", "listen", "blend"),
    "transitions": ("transitions", "rules"),
    "together": ("together", "ease"),
    "listeners": ("listeners",),
    "near": ("vectors",),
    "sessions": ("sessions", "continuations"),
    "new": ("fresh",),
}
FEATURES: Final[Mapping[str, Sequence[str]]] = {
    "own": (
        "own_place", "own_days_since", "own_like", "own_playlist", "own_skip", "own_listen",
        "own_minutes_after", "loop_count", "loop_latest",
    ),
    "near": ("near_last", "near_most", "near_mean"),
    "sessions": ("match_length", "match_share"),
    "artist": ("artist_share", "artist_favourite", "artist_session_share", "artist_same_as_last"),
    "trend": ("trend",),
    "album": ("album_session_share", "album_same_as_last"),
    "language": ("language_spoken", "language_share", "language_session_share"),
    "region": ("region_home", "region_share", "popularity_in_region"),
    "era": ("era_share", "asked_era_match"),
    "genre": ("genre_share", "genre_session_share"),
    "sound": (
        "audio_from_usual", "audio_from_session", "tempo_step", "energy_step", "valence_step",
    ),
    "teens": ("years_from_teens", "years_from_teens_abs"),
    "occasion": ("occasion_match",),
    "mood": ("mood_match",),
    "popular": ("popularity_percentile", "plays_per_listener", "song_like_share"),
    "new": ("age_days",),
}  # fmt: skip
KINDS: Final = tuple(dict.fromkeys((*GENERATORS, *FEATURES)))


def columns(names: Sequence[str]) -> dict[str, list[int]]:
    """Return the places of each kind's features among the ranker's."""
    place_of = {name: place for place, name in enumerate(names)}
    found = {}
    for kind in KINDS:
        parts = [
            f"{name}_{what}" for name in GENERATORS.get(kind, ()) for what in ("score", "rank")
        ]
        found[kind] = [place_of[n] for n in (*parts, *FEATURES.get(kind, ())) if n in place_of]
    return found


def evidence(
    ranker: Ranker, names: Sequence[str], rows: FloatArray
) -> dict[str, NDArray[np.float64]]:
    """Return by how much each row's score falls without each kind of evidence.

    Parameters
    ----------
    names
        Of the ranker's features, in their order.
    rows
        Features of the songs in question, (songs, features).
    """
    if len(rows) == 0:
        return {kind: np.empty(0) for kind in KINDS}
    blocks = [rows]
    for places in columns(names).values():
        without = rows.copy()
        without[:, places] = np.nan
        blocks.append(without)
    scores = ranker.scores(np.concatenate(blocks)).reshape(len(blocks), len(rows))
    return {kind: scores[0] - one for kind, one in zip(KINDS, scores[1:], strict=True)}
