"""What each song that a listener heard adds to a candidate's score.

An effect is by how much the generator's score falls when the song is taken away from history and
session and everything is computed again. Nothing here is a guess: the tests take the song away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from features.catalogue import FloatArray, IntArray
from serving.fold_in import FactorModel


@dataclass(frozen=True)
class Effects:
    """Effects of heard songs on candidates; `effects` is (songs, candidates), `songs` unique."""

    songs: IntArray
    effects: FloatArray


@dataclass(frozen=True)
class Parts:
    """A folded-in listener taken apart, one row an observed song.

    `parts` is (songs, candidates) and sums over songs to the candidates' scores (Hu, Koren and
    Volinsky, ICDM 2008, section 5); `lost` is by how much a score falls without the song.
    """

    songs: IntArray
    parts: FloatArray
    lost: FloatArray


def factor_parts(
    model: FactorModel, songs: IntArray, values: FloatArray, candidates: IntArray
) -> Parts:
    """Take the scores of a fold-in apart by observed song.

    With A the system of the fold-in, e the extra confidence of song j, w its weight in the target
    (1 + e, or 0 for an observed zero), z = A^-1 y_j, and s the listener's score for j, its part in
    candidate i is w y_i z. Without the song A changes too; by Sherman and Morrison the score then
    falls by y_i z (w - e s) / (1 - e y_j z). Where the regularisation goes by the number of songs,
    A without the song has that of one song less from the start.

    Parameters
    ----------
    songs, values
        As `fold_in` takes them; a song that comes twice is one observation of the summed value.
    """
    use = model.known[songs]
    unique, place = np.unique(songs[use], return_inverse=True)
    signed = model.alpha * np.bincount(place, values[use], len(unique))
    extra, target = np.abs(signed), np.where(signed < 0, 0, 1 + signed)
    factors = model.item_factors[unique].astype(np.float64)
    wanted = model.item_factors[candidates]
    confident = (factors.T * extra) @ factors
    solved = np.linalg.solve(model.regularised(len(unique)) + confident, factors.T)
    shares = (wanted @ solved).T
    parts = shares * target[:, None]
    if model.exponent:
        solved = np.linalg.solve(model.regularised(len(unique) - 1) + confident, factors.T)
        shares = (wanted @ solved).T
    leverage = np.einsum("ij,ji->i", factors, solved)
    lost = (target - extra * (factors @ (solved @ target))) / (1 - extra * leverage)
    # Both regularisations are one where they don't go by the number of songs.
    eased = parts.sum(axis=0) - target @ shares if model.exponent else 0.0
    return Parts(
        unique.astype(np.int32),
        parts.astype(np.float32),
        (shares * lost[:, None] + eased).astype(np.float32),
    )


def link_effects(
    links: csr_matrix,
    seeds: IntArray,
    rests: Mapping[int, IntArray],
    decay: float,
    candidates: IntArray,
) -> Effects:
    """Return the effects of the seeds of a neighbour generator.

    Parameters
    ----------
    seeds
        The songs that are continued from, latest first.
    rests
        For each of them the songs that would be without it, as many where there are others.
    """
    used = np.unique(seeds)
    wanted = [rests[int(song)] for song in used]
    rows = np.unique(np.concatenate([seeds, *wanted]))
    weights = _dense(links, rows, candidates)

    def score(songs: IntArray) -> NDArray[np.float64]:
        powers: NDArray[np.float64] = np.power(float(decay), np.arange(len(songs)))
        return powers @ weights[np.searchsorted(rows, songs)]

    full = score(seeds)
    effects = np.stack([full - score(rest) for rest in wanted] or [full])[: len(used)]
    return Effects(used.astype(np.int32), effects.astype(np.float32))


def _dense(links: csr_matrix, rows: Sequence[int] | IntArray, columns: IntArray) -> FloatArray:
    """Return some rows and columns as a dense array; columns need not be sorted or unique."""
    dense = np.zeros((len(rows), len(columns)), dtype=np.float32)
    for place, row in enumerate(rows):
        span = slice(links.indptr[row], links.indptr[row + 1])
        order = np.argsort(links.indices[span])
        theirs = links.indices[span][order]
        if len(theirs):
            at = np.minimum(np.searchsorted(theirs, columns), len(theirs) - 1)
            dense[place] = np.where(theirs[at] == columns, links.data[span][order][at], 0)
    return dense
