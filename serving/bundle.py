"""The bundle: one immutable directory with everything that is needed to answer.

songs.parquet          the catalogue, one row a song (columns of `Song` and `SongRow`)
factors_<signal>.npz   item factors over the catalogue
<generator>.npz        the other generators that are enabled
settings.json          the generators' parameters
ranker.txt             LightGBM, orders the pool (absent in a bundle that only retrieves)
p_like.txt, p_skip.txt, calibration.json   LightGBM probabilities, where the source has them
manifest.json          version, times, feature list, parameters, metrics, checksums
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, load_npz

from features.catalogue import Catalogue, FloatArray, catalogue
from features.columns import Song, SongRow
from features.params import SIGNALS, Generators, SignalName
from serving.dayparts import Dayparts, TensorFactors
from serving.fold_in import FactorModel
from serving.generators import (
    Blend,
    Generator,
    NearestSessions,
    Neighbours,
    Repeats,
    SameArtist,
    SignalFactors,
    Trending,
)
from serving.links import Links
from serving.ranker import Calibration, Ranker
from serving.retrieval import BLEND, Retrieval
from serving.sequences import SessionLoops, SongVectors

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
FACTOR_SCALARS: Final = (
    "regularization",
    "alpha",
    "spread",
    "exponent",
    "offset",
    "skip_weight",
)
LINKS: Final = ("transitions", "rules", "together", "listeners", "ease")


class BundleError(ValueError):
    """A bundle that is missing, damaged, or made for another version of the code."""


def factors_file(signal: SignalName) -> str:
    """Return the file name of a signal's factors."""
    return f"factors_{signal}.npz"


def load_retrieval(folder: Path) -> Retrieval:
    """Read catalogue and generators."""
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    params = Generators.model_validate(settings["generators"])
    songs = catalogue(pd.read_parquet(folder / "songs.parquet"))
    factors = {
        signal: SignalFactors(signal, load_factors(folder / factors_file(signal)))
        for signal in SIGNALS
        if (folder / factors_file(signal)).exists()
    }
    others = _generators(folder, params, songs)
    links = {name: part.links for name, part in others.items() if isinstance(part, Neighbours)}
    vectors = others.get("vectors")
    signals = settings["signals"]
    quota = {name: getattr(params, name).candidates for name in (*others, BLEND)}
    return Retrieval(
        songs=songs,
        generators={**{str(name): part for name, part in factors.items()}, **others},
        blend=blend(factors, {name: signals[name]["weight"] for name in factors}, len(songs)),
        links=Links(links, vectors.vectors if isinstance(vectors, SongVectors) else None),
        quota=quota | {name: signals[name]["candidates"] for name in factors},
        dayparts=_load_dayparts(folder / "dayparts.npz") if params.dayparts.enabled else None,
    )


def _generators(folder: Path, params: Generators, songs: Catalogue) -> dict[str, Generator]:
    """Return the enabled generators, but factors and blend, in a fixed order."""
    found: dict[str, Generator] = {
        name: Neighbours(load_npz(folder / f"{name}.npz"), getattr(params, name))
        for name in LINKS
        if getattr(params, name).enabled
    }
    if params.vectors.enabled:
        found["vectors"] = _load_vectors(folder / "vectors.npz", params)
    if params.sessions.enabled:
        found["sessions"] = _load_sessions(folder / "sessions.npz", params)
    if params.loops.enabled:
        found["loops"] = SessionLoops(params.loops)
    if params.repeats.enabled:
        found["repeats"] = Repeats(params.repeats)
    if params.artists.enabled:
        found["artists"] = SameArtist(artist_songs(songs), songs)
    if params.tensor.enabled:
        found["tensor"] = _load_tensor(folder / "tensor.npz")
    # Always there: the one generator that has something for everybody.
    return found | {"trending": _load_trending(folder / "trending.npz", songs)}


def load_factors(path: Path) -> FactorModel:
    """Read one signal's factors."""
    with np.load(path) as stored:
        return FactorModel(
            item_factors=stored["item_factors"],
            known=stored["known"],
            **{name: float(stored[name]) for name in FACTOR_SCALARS if name in stored},
        )


def blend(
    factors: Mapping[SignalName, SignalFactors], weights: Mapping[SignalName, float], songs: int
) -> Blend:
    """Stack the signals' factors, each times weight / spread."""
    models = {signal: part.model for signal, part in factors.items()}
    stacked = [m.item_factors * (weights[s] / m.spread) for s, m in models.items()]
    known = [m.known for m in models.values()]
    return Blend(
        signals=tuple(models),
        widths=tuple(m.item_factors.shape[1] for m in models.values()),
        stacked=np.hstack(stacked).astype(np.float32) if stacked else np.zeros((songs, 0), "f4"),
        known=np.logical_or.reduce(known) if known else np.zeros(songs, dtype=np.bool_),
    )


def artist_songs(songs: Catalogue) -> csr_matrix:
    """Return popularity in (0, 1], rows first artists, columns songs."""
    codes = songs.codes[Song.ARTISTS]
    rows = np.flatnonzero(codes.codes >= 0)
    popularity = np.nan_to_num(songs.numbers[SongRow.POPULARITY_PERCENTILE][rows]) + 1e-3
    shape = (len(codes.vocabulary), len(songs))
    return csr_matrix((popularity.astype(np.float32), (codes.codes[rows], rows)), shape=shape)


def _load_vectors(path: Path, params: Generators) -> SongVectors:
    with np.load(path) as stored:
        return SongVectors(stored["vectors"], stored["known"], params.vectors)


def _load_dayparts(path: Path) -> Dayparts:
    with np.load(path) as stored:
        arrays = dict(stored)
    return Dayparts(**arrays | {"prior": float(arrays["prior"])})


def _load_tensor(path: Path) -> TensorFactors:
    with np.load(path) as stored:
        return TensorFactors(
            stored["item_factors"],
            stored["daypart_factors"],
            stored["known"],
            regularization=float(stored["regularization"]),
            alpha=float(stored["alpha"]),
        )


def _load_sessions(path: Path, params: Generators) -> NearestSessions:
    with np.load(path) as stored:
        shape = tuple(stored["shape"])
        indices, indptr = stored["indices"], stored["indptr"]
        # In order of play, a song as often as it came: not to be sorted or summed up.
        in_order = csr_matrix((np.ones(len(indices), np.float32), indices, indptr), shape=shape)
        sessions_of = in_order.T.tocsr()
        sessions_of.sum_duplicates()
        return NearestSessions(
            song_sessions=latest(sessions_of, params.sessions.per_song),
            session_songs=in_order,
            recency=stored["recency"],
            song_weight=stored["song_weight"],
            params=params.sessions,
        )


def latest(matrix: csr_matrix, per_row: int) -> csr_matrix:
    """Keep the last `per_row` entries of each row; columns are in order of time."""
    lengths = np.diff(matrix.indptr)
    from_end = np.repeat(matrix.indptr[1:], lengths) - np.arange(matrix.nnz)
    keep = from_end <= per_row
    indptr = np.concatenate([[0], np.cumsum(np.minimum(lengths, per_row))])
    return csr_matrix((matrix.data[keep], matrix.indices[keep], indptr), shape=matrix.shape)


def _load_trending(path: Path, songs: Catalogue) -> Trending:
    with np.load(path) as stored:
        overall: FloatArray = stored["overall"]
    return Trending(
        overall=overall,
        songs=songs,
        by_region=_column_shares(songs.region_popularity),
        by_language=_column_shares(songs.language_popularity),
    )


def _column_shares(matrix: FloatArray) -> FloatArray:
    total = matrix.sum(axis=0)
    return (matrix / np.where(total > 0, total, 1)).astype(np.float32)


def load_ranker(folder: Path, feature_names: tuple[str, ...]) -> Ranker:
    """Read the boosters and check that they were trained on these features, in this order.

    Raises
    ------
    BundleError
        If the lists differ.
    """
    boosters = {
        name: lightgbm.Booster(model_file=folder / f"{name}.txt")
        for name in ("ranker", "p_like", "p_skip")
        if (folder / f"{name}.txt").exists()
    }
    for name, booster in boosters.items():
        if tuple(booster.feature_name()) != feature_names:
            different = set(booster.feature_name()) ^ set(feature_names)
            raise BundleError(
                f"{folder / name}.txt was trained on other features than this code computes "
                f"({sorted(different)[:5]}, or their order); train again with `dvc repro`."
            )
    curves = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))
    return Ranker(
        booster=boosters["ranker"],
        probabilities={
            name: (boosters[name], Calibration(np.array(curve["raw"]), np.array(curve["share"])))
            for name, curve in curves.items()
        },
    )


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file but the manifest, by name."""
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest and check that the directory is what it says.

    Raises
    ------
    BundleError
        If the bundle is missing, its format is another, or a file is missing or changed.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise BundleError(
            f"There is no bundle at {folder}: train one with `make pipeline`, or name one in "
            "SEGUE_BUNDLE."
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        form, expected = manifest["format"], manifest["checksums"]
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is damaged ({error}); deploy the bundle again.") from error
    if form != FORMAT:
        raise BundleError(
            f"{folder} has bundle format {form}, this code reads {FORMAT}; train again."
        )
    found = checksums(folder)
    wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
    if wrong:
        raise BundleError(f"{folder} is damaged: {wrong} missing or changed; deploy it again.")
    return manifest
