"""Matrix factorisation from the library `implicit`: ALS and BPR, folded in at the question.

A row of the matrix is a session or a listener (`unit`). At the question a new row is made of the
last songs of the context, each further back worth `decay` of the one after it; ALS solves for
its factors, BPR takes the mean of its songs' factors, which has no solution of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from benchmarks.peers.counting import binary, context_weights
from benchmarks.peers.data import Plays, Query
from benchmarks.peers.ranking import Tops, best, joined, percentiles, popularity
from training.metrics import Floats

BLOCK = 500


@dataclass
class Factors:
    """What both share: the context, and the inner products with all songs."""

    fill: int = 10
    last: int = 20
    decay: float = 0.8
    unit: str = "sessions"
    factors: int = 64
    seed: int = 7
    popularity_: Floats = field(init=False, repr=False)
    songs_: Floats = field(init=False, repr=False)

    def tops(self, queries: Sequence[Query]) -> Tops:
        """Return the best songs by inner product with the folded-in rows."""
        size = len(self.popularity_)
        context = context_weights(queries, size, self.fill, self.last, self.decay)
        parts = []
        for start in range(0, len(queries), BLOCK):
            rows = self.folded_in(context[start : start + BLOCK].tocsr())
            parts.append(best(np.asarray(rows @ self.songs_.T, np.float64), self.popularity_))
        return joined(parts)

    def folded_in(self, context: csr_matrix) -> Floats:
        """Return the rows' factors."""
        raise NotImplementedError


@dataclass
class Als(Factors):
    """Implicit ALS (Hu, Koren, Volinsky 2008): confidence 1 + alpha × recency-weighted plays."""

    half_life_days: float = np.inf
    regularization: float = 0.05
    alpha: float = 10.0
    iterations: int = 15
    model_: AlternatingLeastSquares = field(init=False, repr=False)

    def fit(self, plays: Plays) -> "Als":
        """Factorise sessions or listeners × songs."""
        self.popularity_ = percentiles(popularity(plays))
        matrix = plays.matrix(self.unit, self.half_life_days).astype(np.float32)
        # The library works in parallel itself; it complains when BLAS would too.
        with threadpool_limits(1, "blas"):
            self.model_ = AlternatingLeastSquares(
                factors=self.factors,
                regularization=self.regularization,
                alpha=self.alpha,
                iterations=self.iterations,
                num_threads=1,
                random_state=self.seed,
            )
            self.model_.fit(matrix, show_progress=False)
        self.songs_ = np.asarray(self.model_.item_factors)
        return self

    def folded_in(self, context: csr_matrix) -> Floats:
        """Return the least-squares solution of each row, the songs' factors held still."""
        rows = np.arange(context.shape[0])
        found: Floats = self.model_.recalculate_user(rows, context.astype(np.float32))
        return found


@dataclass
class Bpr(Factors):
    """BPR (Rendle et al. 2009) on sessions or listeners × songs.

    With `cosine` the songs' factors are brought to length 1 and the popularity bias is left out.
    """

    learning_rate: float = 0.05
    regularization: float = 0.01
    iterations: int = 100
    cosine: bool = False

    def fit(self, plays: Plays) -> "Bpr":
        """Factorise sessions or listeners × songs."""
        self.popularity_ = percentiles(popularity(plays))
        model = BayesianPersonalizedRanking(
            factors=self.factors,
            learning_rate=self.learning_rate,
            regularization=self.regularization,
            iterations=self.iterations,
            num_threads=1,
            random_state=self.seed,
        )
        model.fit(binary(plays, self.unit).astype(np.float32), show_progress=False)
        self.songs_ = np.asarray(model.item_factors)
        if self.cosine:
            # The last column is the songs' bias.
            directions = self.songs_[:, :-1]
            lengths = np.linalg.norm(directions, axis=1, keepdims=True)
            self.songs_ = directions / np.maximum(lengths, 1e-12)
        return self

    def folded_in(self, context: csr_matrix) -> Floats:
        """Return the weighted mean of the context's song factors; the bias counts once."""
        sums = np.maximum(np.asarray(context.sum(axis=1)), 1e-12)
        rows = np.asarray(context @ self.songs_) / sums
        if not self.cosine:
            rows[:, -1] = 1
        return rows
