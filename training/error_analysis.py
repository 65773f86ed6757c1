"""Where the answers are lost: what the data could know, what the pool held, what the order did.

Two views of each query. `meeting` says what the events before the fit know of the answer: `never
heard` by anyone; heard, but `never met` (in no session with any of the running session's songs;
for a session start, with any of the listener's history); or `met`. `fate` says where the answer
went, each query once: ranked 1-20, in the pool below 20, or not in the pool, and then by meeting.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from features.columns import Action, Event, UserRow
from features.lake import read_events
from training.metrics import FEWEST_QUERIES
from training.queries import Labelled

NEVER_HEARD: Final = "never heard"
NEVER_MET: Final = "never met"
MET: Final = "met"
FATES: Final = (
    "ranked 1-20",
    "in the pool, below 20",
    "met, not in the pool",
    "never met, not in the pool",
    "never heard, not in the pool",
)


def read_listenings(lake: Path, until: datetime) -> pd.DataFrame:
    """Return session and song of every listening, skipped or not, before a moment."""
    columns = [Event.SESSION, Event.SONG, Event.ACTION]
    events = read_events(lake, until=until, columns=columns, known_by=until)
    return events[events[Event.ACTION].isin(Action.LISTENINGS)]


def meetings(heard: pd.DataFrame, queries: Sequence[Labelled]) -> NDArray[np.str_]:
    """Return each query's `meeting`, shape (queries,).

    Parameters
    ----------
    heard
        Listenings before the fit, columns session and song.
    """
    songs, index = np.unique(heard[Event.SONG].to_numpy(dtype=np.str_), return_inverse=True)
    sessions = pd.factorize(heard[Event.SESSION])[0]
    shape = (len(songs), int(sessions.max(initial=-1)) + 1)
    in_sessions = csr_matrix((np.ones(len(heard), np.int8), (index, sessions)), shape=shape)
    index_of = {str(song): place for place, song in enumerate(songs)}
    return np.array([meeting(in_sessions, index_of, labelled) for labelled in queries])


def meeting(in_sessions: csr_matrix, index_of: dict[str, int], labelled: Labelled) -> str:
    """Return what the past knows of one answer; `in_sessions` is (songs, sessions)."""
    answer = index_of.get(labelled.answer)
    if answer is None:
        return NEVER_HEARD
    seeds = [index_of[song] for song in company(labelled) if song in index_of]
    past = in_sessions.indices[in_sessions.indptr[answer] : in_sessions.indptr[answer + 1]]
    if not seeds:
        return NEVER_MET
    return MET if np.isin(in_sessions[seeds].indices, past).any() else NEVER_MET


def company(labelled: Labelled) -> set[str]:
    """Return the songs that an answer may have met: the session's, at a start the history's."""
    if labelled.place:
        return {event.song_id for event in labelled.query.session}
    history = labelled.query.user.get(UserRow.HISTORY_SONGS)
    return set() if history is None else set(history)


def fates(
    ranks: NDArray[np.float64], in_pool: NDArray[np.bool_], meeting: NDArray[np.str_]
) -> NDArray[np.str_]:
    """Return where each answer went, one of `FATES`.

    Examples
    --------
    >>> fates(np.array([3.0, np.nan]), np.array([True, False]), np.array(["met", "met"])).tolist()
    ['ranked 1-20', 'met, not in the pool']
    """
    outside = np.array([f"{word}, not in the pool" for word in meeting], dtype=object)
    return np.select([np.isfinite(ranks), in_pool], FATES[:2], outside).astype(np.str_)


def fate_table(
    fate: NDArray[np.str_], kinds: pd.DataFrame, fewest: int = FEWEST_QUERIES
) -> pd.DataFrame:
    """Return the share of each fate in every slice with enough queries, and over all."""
    rows = []
    every = pd.Series("all", index=kinds.index)
    for kind, values in [("all", every), *kinds.items()]:
        for value, members in values.groupby(values).groups.items():
            if len(members) < fewest and kind != "all":
                continue
            mine = fate[kinds.index.get_indexer(members)]
            name = "all" if kind == "all" else f"{kind}: {value}"
            shares = {one: float((mine == one).mean()) for one in FATES}
            rows.append({"slice": name, "queries": len(members), **shares})
    return pd.DataFrame(rows)


def cross_table(
    meeting: NDArray[np.str_], ranks: NDArray[np.float64], in_pool: NDArray[np.bool_]
) -> pd.DataFrame:
    """Return, for each meeting, queries, their share, and the shares in the pool and found."""
    rows = []
    for word in (MET, NEVER_MET, NEVER_HEARD):
        mine = meeting == word
        if mine.any():
            rows.append(
                {
                    "meeting": word,
                    "queries": int(mine.sum()),
                    "share": float(mine.mean()),
                    "in_pool": float(in_pool[mine].mean()),
                    "found_20": float(np.isfinite(ranks[mine]).mean()),
                }
            )
    return pd.DataFrame(rows)


def examples(
    queries: Sequence[Labelled], fate: NDArray[np.str_], each: int, seed: int
) -> pd.DataFrame:
    """Return some queries of each fate by their ids, to look up in the lake."""
    random = np.random.default_rng(seed)
    rows = []
    for one in FATES:
        places = np.flatnonzero(fate == one)
        for place in np.sort(random.permutation(places)[:each]):
            labelled = queries[place]
            last = labelled.query.session[-1].song_id if labelled.query.session else ""
            ids = {"query_id": labelled.query_id, "user_id": labelled.user_id}
            rows.append({"fate": one, **ids, "last_song": last, "answer": labelled.answer})
    return pd.DataFrame(rows, columns=["fate", "query_id", "user_id", "last_song", "answer"])
