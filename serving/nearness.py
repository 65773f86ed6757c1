"""How near songs lie to other songs: by artist, by who hears them or genre, by sound."""

import numpy as np

from features.catalogue import Catalogue, FloatArray, IntArray
from features.columns import Song
from serving.fold_in import FactorModel


def nearness(
    songs: Catalogue, listen: FactorModel | None, candidates: IntArray, anchors: IntArray
) -> FloatArray:
    """Return each candidate's nearness to its nearest anchor, 0 (unlike) to 1, shape (candidates,).

    The mean of what is known of a pair: 1 for the same artist, else 0; the cosine of the `listen`
    factors, not below 0, or where a song was not heard yet 1 for the same genre, else 0;
    exp(-d / 2) with d the distance in standardised audio features. Where nothing is known of any
    pair: 0.
    """
    if len(anchors) == 0 or len(candidates) == 0:
        return np.zeros(len(candidates), dtype=np.float32)
    cosine = _cosine(listen, candidates, anchors)
    genre = _same(songs, Song.GENRES, candidates, anchors)
    parts = np.stack(
        [
            _same(songs, Song.ARTISTS, candidates, anchors),
            np.where(np.isnan(cosine), genre, cosine),
            _sound(songs, candidates, anchors),
        ]
    )
    known = np.isfinite(parts)
    total = np.where(known, parts, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return total.max(axis=1).astype(np.float32)


def _same(songs: Catalogue, column: str, candidates: IntArray, anchors: IntArray) -> FloatArray:
    codes = songs.codes[column].codes
    ours, theirs = codes[candidates][:, None], codes[anchors][None, :]
    return np.where((ours >= 0) & (theirs >= 0), ours == theirs, np.nan).astype(np.float32)


def _cosine(listen: FactorModel | None, candidates: IntArray, anchors: IntArray) -> FloatArray:
    if listen is None:
        return np.full((len(candidates), len(anchors)), np.nan, dtype=np.float32)
    ours, theirs = listen.item_factors[candidates], listen.item_factors[anchors]
    lengths = np.outer(np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1))
    cosine = np.divide(
        ours @ theirs.T, lengths, out=np.full(lengths.shape, np.nan, "f4"), where=lengths > 0
    )
    return np.maximum(cosine, 0)


def _sound(songs: Catalogue, candidates: IntArray, anchors: IntArray) -> FloatArray:
    steps = songs.audio[candidates][:, None, :] - songs.audio[anchors][None, :, :]
    known = np.isfinite(steps)
    counts = known.sum(axis=2).astype(np.float32)
    counts[counts == 0] = np.nan
    squares = np.where(known, steps**2, np.float32(0)).sum(axis=2) * (steps.shape[2] / counts)
    return np.exp(-np.sqrt(squares) / 2)
