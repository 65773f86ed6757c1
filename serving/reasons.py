"""Why this song, in words, from what proposed it and how it stands to the listener."""

import numpy as np

from features.columns import Song, User
from features.pairs import TEEN_AGE, missing
from features.state import State
from serving.retrieval import Pool, Retrieval

MOST = 2


def reasons(retrieval: Retrieval, state: State, pool: Pool, row: int) -> tuple[str, ...]:
    """Return at most two short sentences for one candidate, the most personal first."""
    song = int(pool.songs[row])
    proposed = {
        name: float(rank)
        for name, rank in zip(retrieval.names, pool.ranks[row], strict=True)
        if np.isfinite(rank)
    }
    found = [*_listener(retrieval, state, song), *_session(retrieval, state, song, proposed)]
    found += _crowd(state, proposed)
    return tuple(dict.fromkeys(found))[:MOST]


def title(retrieval: Retrieval, song: int) -> str:
    """Return a song's title, or its id where it has none."""
    return retrieval.songs.names.title(song) or f"song {retrieval.songs.ids[song]}"


def _listener(retrieval: Retrieval, state: State, song: int) -> list[str]:
    found = []
    place = np.flatnonzero(state.history == song)
    if len(place) and state.history_values["like"][place[0]] > 0:
        found.append("You liked it")
    elif len(place):
        found.append("You have played it before")
    occasion = state.query.context.get("occasion")
    tags = retrieval.songs.tags[Song.OCCASIONS]
    column = tags.code_of.get(str(occasion))
    if column is not None and tags.has[song, column]:
        found.append(f"For {str(occasion).replace('_', ' ')}")
    year = retrieval.songs.numbers[Song.RELEASE_YEAR][song]
    born = state.query.user.get(User.BIRTH_YEAR)
    age = np.nan if missing(born) else float(year) - float(born or 0)
    if abs(age - TEEN_AGE) <= 3:
        found.append(f"From when you were {int(age)}")
    return found


def _session(
    retrieval: Retrieval, state: State, song: int, proposed: dict[str, float]
) -> list[str]:
    found = []
    artists = retrieval.songs.codes[Song.ARTISTS]
    artist = artists.codes[song]
    if len(state.session):
        last = title(retrieval, int(state.session[-1]))
        if artist >= 0 and artist in artists.codes[state.session]:
            found.append(f"More by {artists.vocabulary[artist]}")
        if "transitions" in proposed:
            found.append(f"Often played after {last}")
        elif proposed.keys() & {"together", "sessions"}:
            found.append(f"Played in sessions like this one, with {last}")
    elif artist >= 0 and "artists" in proposed:
        found.append(f"By {artists.vocabulary[artist]}, whom you play")
    return found


def _crowd(state: State, proposed: dict[str, float]) -> list[str]:
    found = []
    if proposed.keys() & {"like", "playlist", "listen", "blend"}:
        found.append("Loved by listeners with a taste like yours")
    if "trending" in proposed:
        region = state.query.user.get(User.REGION)
        found.append("Much played now" if missing(region) else f"Much played now in {region}")
    return found or ["Played by listeners like you"]
