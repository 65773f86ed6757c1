"""Ask a bundle the test phase's queries, and every generator and plain popularity beside it.

Protocol: full catalogue, no sampled negatives; the answer is the song that was played at the
position; songs of the running session may be proposed again by everyone; a seeded sample of
positions where there are more than `evaluation.max_queries`, of which `evaluation.starts_share` are
session starts (judged by themselves); intervals by bootstrap over listeners. An answer that nobody
proposes counts as a miss.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from features.catalogue import IntArray
from features.columns import SongRow, User, UserRow
from features.dayparts import block_of
from features.pairs import local_hour, missing
from serving.candidates import Prepared, most_popular_first
from serving.recommender import BEST, Recommender
from serving.retrieval import Pool
from training.methods import POPULARITY, SEGUE, Answers
from training.metrics import TOP
from training.queries import Labelled

CANDIDATES = (25, 50, 100, 200, 300, 500)
FUSION = 60
WEEK: Final = timedelta(days=7)


def ask(recommender: Recommender, queries: Sequence[Labelled]) -> Answers:
    """Answer every query with the whole recommender and with each part of it."""
    retrieval = recommender.retrieval
    popular = most_popular_first(recommender.retrieval.songs, TOP)
    answers: dict[str, list[IntArray]] = {
        name: [] for name in (SEGUE, *retrieval.names, POPULARITY)
    }
    in_pool, size, cut = [], [], []
    for labelled in tqdm(queries, desc="test queries", unit="query", mininterval=1):
        prepared = recommender.prepare(labelled.query)
        # Said how to draw, the slate holds the scores of the whole pool as well.
        slate = recommender.answer(prepared, TOP, explore=BEST)
        found = retrieval.songs.indices([song.song_id for song in slate.songs])
        answers[SEGUE].append(found)
        for name, songs in generator_tops(recommender, prepared):
            answers[name].append(songs)
        answers[POPULARITY].append(permitted(recommender, prepared, popular))
        truth = retrieval.songs.index_of.get(labelled.answer, -1)
        in_pool.append(truth in prepared.pool.songs)
        size.append(len(prepared.pool.songs))
        cut.append(cut_ranks(prepared.pool, truth, slate.scores))
    padded = {name: np.stack([pad(songs) for songs in rows]) for name, rows in answers.items()}
    return Answers(padded, np.array(in_pool), np.array(size, dtype=np.int32), np.array(cut))


def cut_ranks(pool: Pool, truth: int, scores: NDArray[np.float64]) -> list[float]:
    """Return the truth's rank by `scores` in the pool cut to its best `CANDIDATES`, NaN outside."""
    place = np.flatnonzero(pool.songs == truth)
    if not len(place):
        return [np.nan] * len(CANDIDATES)
    order = fused_order(pool)
    mine = scores[place[0]]
    # Ties go to the song that comes first, as in an answer.
    better = (scores[order] > mine) | ((scores[order] == mine) & (order < place[0]))
    position = int(np.flatnonzero(order == place[0])[0])
    return [1.0 + better[:n].sum() if position < n else np.nan for n in CANDIDATES]


def fused_order(pool: Pool) -> NDArray[np.intp]:
    """Return the pool's places by reciprocal rank fusion of the generators, best first.

    The sum of 1 / (60 + rank) over those that propose a song (Cormack et al., SIGIR 2009).
    """
    fused = np.nansum(1 / (FUSION + 1 + pool.ranks.astype(np.float64)), axis=1)
    return np.argsort(-fused, kind="stable")


def generator_tops(recommender: Recommender, prepared: Prepared) -> Iterator[tuple[str, IntArray]]:
    """Yield each generator's own best songs for a query."""
    scores = recommender.retrieval.scores(prepared.state)
    for name in recommender.retrieval.names:
        yield name, permitted(recommender, prepared, scores[name].top(TOP))


def permitted(recommender: Recommender, prepared: Prepared, songs: IntArray) -> IntArray:
    """Return the songs that the hard rules permit: no method hits what Segue may not answer."""
    catalogue = recommender.retrieval.songs
    mask = recommender.candidates.rights.permitted(prepared.state.query, catalogue, songs)
    return songs if mask is None else songs[mask]


def pad(songs: IntArray) -> IntArray:
    """Fill up to TOP with -1."""
    return np.concatenate([songs, np.full(TOP - len(songs), -1)]).astype(np.int32)


def slices(recommender: Recommender, queries: Sequence[Labelled]) -> pd.DataFrame:
    """Return one row a query with the value of each slice.

    `fit` is how old the bundle was. `found`, where anything was recommended, parts that from what
    listeners came by otherwise: who picks from what a model showed picks what its like foretells.
    """
    songs = recommender.retrieval.songs
    fitted = datetime.fromisoformat(recommender.manifest["seen_until"])
    rows = []
    for labelled in queries:
        user = labelled.query.user
        answer = songs.index_of.get(labelled.answer, -1)
        weekday, hour = local_hour(user, labelled.query.ts_us)
        age = songs.numbers[SongRow.AGE_DAYS][answer] if answer >= 0 else np.nan
        rows.append(
            {
                "listener": "new" if is_new(labelled) else "known",
                "song": song_age(answer, float(age)),
                "repeat": repeat_kind(labelled),
                "prefix": prefix_bin(labelled.place),
                "region": "unknown" if missing(user.get(User.REGION)) else str(user[User.REGION]),
                "daypart": f"{'weekend' if weekday >= 5 else 'weekday'} {block_of(hour)}",
                "fit": f"week {(labelled.query.ts - fitted) // WEEK + 1}",
            }
        )
    recommended = np.array([labelled.is_recommended for labelled in queries], dtype=bool)
    found = (
        {"found": np.where(recommended, "recommended", "otherwise")} if recommended.any() else {}
    )
    return pd.DataFrame(rows).assign(**found)


def is_new(labelled: Labelled) -> bool:
    """Tell whether nothing that the listener had heard was known."""
    history = labelled.query.user.get(UserRow.HISTORY_SONGS)
    heard = history is not None and len(history) > 0
    return missing(labelled.query.user.get(UserRow.PLAYS)) and not heard


def song_age(answer: int, age_days: float) -> str:
    """Name a song's age when the model was fitted."""
    if answer < 0:
        return "not in the catalogue"
    return "new (under 14 days)" if age_days < 14 else "older"


def repeat_kind(labelled: Labelled) -> str:
    """Tell whether the answer is in the session so far, in the listener's history, or in neither.

    A history holds the latest songs: what was heard long ago may be in neither.
    """
    if any(event.song_id == labelled.answer for event in labelled.query.session):
        return "in the session"
    history = labelled.query.user.get(UserRow.HISTORY_SONGS)
    known = history is not None and labelled.answer in list(history)
    return "in the history" if known else "in neither"


def prefix_bin(place: int) -> str:
    """Name how much of the session had been played."""
    for bound, name in ((0, "0 (start)"), (1, "1"), (4, "2-4"), (9, "5-9")):
        if place <= bound:
            return name
    return "10+"
