"""How much the index finds of what an exact search finds."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.catalogue import FloatArray
from features.state import resolve
from features.store import online_user_row
from serving.api import Profile, RecommendRequest
from serving.generators import SignalFactors
from serving.manifest import HISTORY_SONGS
from serving.packed import Factors
from serving.questions import filled, query_of
from serving.retrieval import Retrieval
from serving.scores import FactorScores

TOP: Final = 200
BLOCK: Final = 131_072
SIGNAL: Final = "listen"


def index_recall(retrieval: Retrieval, bodies: Sequence[dict[str, Any]]) -> float:
    """Return the mean share of the exact `TOP` that the served search finds; 1 without an index.

    The listeners are folded in from their rows and sessions, as the service does it.
    """
    part = retrieval.generators[SIGNAL]
    if not isinstance(part, SignalFactors):
        raise TypeError(f"The generator `{SIGNAL}` should hold factors.")
    asked = [scores for scores in (_scores(retrieval, part, b) for b in bodies) if scores]
    exact = exact_top(np.array([scores.vector for scores in asked]), part.model.item_factors)
    shares = [np.isin(s.top(TOP), own).sum() / TOP for s, own in zip(asked, exact, strict=True)]
    return float(np.mean(shares))


def _scores(retrieval: Retrieval, part: SignalFactors, body: dict[str, Any]) -> FactorScores | None:
    request = RecommendRequest.model_validate(body)
    row = {} if request.user_id is None else dict(online_user_row(request.user_id))
    known = filled(row, request.profile or Profile())
    query = query_of(request, known, [], retrieval.songs, HISTORY_SONGS)
    found = part.scores(resolve(query, retrieval.songs))
    return found if isinstance(found, FactorScores) else None


def exact_top(vectors: FloatArray, item_factors: Factors) -> NDArray[np.int64]:
    """Return the songs of the `TOP` largest products of each vector, all songs looked at."""
    values = np.full((len(vectors), TOP), -np.inf, dtype=np.float32)
    songs = np.full((len(vectors), TOP), -1)
    for start in range(0, len(item_factors), BLOCK):
        block = item_factors[start : start + BLOCK]
        candidates = np.hstack([values, vectors @ block.T])
        own = np.broadcast_to(np.arange(start, start + len(block)), (len(vectors), len(block)))
        best = np.argpartition(-candidates, TOP - 1, axis=1)[:, :TOP]
        values = np.take_along_axis(candidates, best, axis=1)
        songs = np.take_along_axis(np.hstack([songs, own]), best, axis=1)
    return songs
