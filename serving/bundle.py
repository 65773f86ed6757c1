"""Reading a bundle, whose files `serving.files` lists.

Arrays are memory-mapped: processes that serve the same bundle share its pages.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np
from pydantic import BaseModel
from scipy.sparse import csr_matrix

from features.arrays import as_rows, map_arrays, map_rows
from features.catalogue import Catalogue, IntArray, map_catalogue
from features.params import (
    SIGNALS,
    Exploration,
    Feedback,
    Generators,
    Modes,
    SignalName,
    Steering,
)
from serving.continuations import Continuations
from serving.dayparts import Dayparts, TensorFactors
from serving.files import (
    ARTISTS_FILE,
    BOOSTERS,
    CALIBRATION_FILE,
    DAYPARTS_FILE,
    FRESH_FILE,
    LINKS,
    SESSIONS_FILE,
    SETTINGS_FILE,
    TENSOR_FILE,
    TRENDING_FILE,
    VECTORS_FILE,
    factors_file,
    index_file,
    links_file,
    trees_file,
)
from serving.fold_in import FactorModel
from serving.forest import forest
from serving.fresh import FreshSongs
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
from serving.index import EXACT_BELOW, build_index, load_index
from serving.layout import FACTOR_SCALARS, stored_factors
from serving.links import Links
from serving.manifest import BundleError
from serving.ranker import SESSION_LENGTH, Calibration, Ranker, Starts, Trees
from serving.retrieval import BLEND, Retrieval
from serving.sequences import SessionLoops, SongVectors

# What of params.yaml bends an answer without any fit.
SERVING_SECTIONS: Final[Mapping[str, type[BaseModel]]] = {
    "exploration": Exploration,
    "feedback": Feedback,
    "modes": Modes,
    "steering": Steering,
}


def read_settings(folder: Path) -> dict[str, Any]:
    """Return what of params.yaml a bundle answers by."""
    settings: dict[str, Any] = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    return settings


def load_retrieval(folder: Path) -> Retrieval:
    """Read catalogue and generators."""
    settings = read_settings(folder)
    params = Generators.model_validate(settings["generators"])
    songs = map_catalogue(folder)
    factors = {
        signal: _load_signal(folder, signal)
        for signal in SIGNALS
        if (folder / factors_file(signal)).exists()
    }
    others = load_generators(folder, params, songs)
    transitions, vectors = others.get("transitions"), others.get("vectors")
    continuations = others.get("continuations")
    signals = settings["signals"]
    proposing = (*others, BLEND) if params.blend.enabled else tuple(others)
    quota = {name: getattr(params, name).candidates for name in proposing}
    return Retrieval(
        songs=songs,
        generators={**{str(name): part for name, part in factors.items()}, **others},
        blend=blend(
            factors,
            {name: signals[name]["weight"] for name in factors},
            len(songs),
            scored=params.blend.enabled,
        ),
        links=Links(
            transitions.links if isinstance(transitions, Neighbours) else None,
            vectors.vectors if isinstance(vectors, SongVectors) else None,
            continuations if isinstance(continuations, Continuations) else None,
        ),
        quota=quota | {name: signals[name]["candidates"] for name in factors},
        dayparts=_load_dayparts(folder / DAYPARTS_FILE) if params.dayparts.enabled else None,
    )


def load_generators(folder: Path, params: Generators, songs: Catalogue) -> dict[str, Generator]:
    """Return the enabled generators, but factors and blend, in a fixed order."""
    found: dict[str, Generator] = {
        name: Neighbours(map_rows(folder / links_file(name)), getattr(params, name))
        for name in LINKS
        if getattr(params, name).enabled
    }
    if params.vectors.enabled:
        found["vectors"] = _load_vectors(folder / VECTORS_FILE, params)
    if params.sessions.enabled:
        near = _load_sessions(folder / SESSIONS_FILE, params)
        found["sessions"] = near
        if params.continuations.enabled:
            found["continuations"] = Continuations(
                near.song_sessions, near.session_songs, near.recency, params.continuations
            )
    if params.loops.enabled:
        found["loops"] = SessionLoops(params.loops)
    if params.repeats.enabled:
        found["repeats"] = Repeats(params.repeats)
    if params.artists.enabled:
        found["artists"] = _load_artists(folder / ARTISTS_FILE, songs)
    # A source may say nothing that new songs could be found by.
    if params.fresh.enabled and (folder / FRESH_FILE).exists():
        found["fresh"] = FreshSongs(map_rows(folder / FRESH_FILE), songs)
    if params.tensor.enabled:
        found["tensor"] = _load_tensor(folder / TENSOR_FILE)
    # Always there: the one generator that has something for everybody.
    return found | {"trending": Trending(**map_arrays(folder / TRENDING_FILE), songs=songs)}


def index_factors(folder: Path) -> None:
    """Build the indexes of a folder that retrieves: of a large catalogue's proposing signals.

    A signal that knows no song gets none, and finds nothing without one too.
    """
    signals = read_settings(folder)["signals"]
    for signal in SIGNALS:
        path = folder / factors_file(signal)
        if not path.exists() or signals[signal]["candidates"] == 0:
            continue
        model = load_factors(path)
        if len(model.known) >= EXACT_BELOW and model.known.any():
            build_index(folder / index_file(signal), model)


def _load_signal(folder: Path, signal: SignalName) -> SignalFactors:
    model = load_factors(folder / factors_file(signal))
    return SignalFactors(signal, model, load_index(folder / index_file(signal), model.gram))


def load_sections(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Read the parameters that `SERVING_SECTIONS` names, as arguments of a `Recommender`.

    Older bundles have some of them in the manifest only; what is in neither takes its defaults.
    """
    known = manifest.get("params", {}) | read_settings(folder)
    return {
        name: section.model_validate(known.get(name, {}))
        for name, section in SERVING_SECTIONS.items()
    }


def load_factors(path: Path) -> FactorModel:
    """Map one signal's factors; scalars that a bundle lacks are as they were before they came."""
    stored = map_arrays(path)
    return FactorModel(
        item_factors=stored_factors(stored),
        known=stored["known"],
        **{name: float(stored[name]) for name in FACTOR_SCALARS if name in stored},
        stored_gram=stored.get("gram"),
    )


def blend(
    factors: Mapping[SignalName, SignalFactors],
    weights: Mapping[SignalName, float],
    songs: int,
    scored: bool = True,
) -> Blend:
    """Put the signals' factors, each times weight / spread, beside each other; see `Blend`.

    Where it is not `scored`, its scales are all that anyone reads.
    """
    models = {signal: part.model for signal, part in factors.items()}
    scales = {signal: weights[signal] / model.spread for signal, model in models.items()}
    small = scored and songs < EXACT_BELOW
    stacked = [m.item_factors[:] * scales[s] for s, m in models.items()] if small else []
    return Blend(
        signals=tuple(models),
        widths=tuple(m.item_factors.shape[1] for m in models.values()),
        scales=tuple(scales.values()),
        stacked=np.hstack(stacked).astype(np.float32) if stacked else np.zeros((songs, 0), "f4"),
    )


def _load_vectors(path: Path, params: Generators) -> SongVectors:
    stored = map_arrays(path)
    return SongVectors(stored["vectors"], stored["known"], params.vectors)


def _load_dayparts(path: Path) -> Dayparts:
    stored = map_arrays(path)
    prior = float(stored.pop("prior"))
    return Dayparts(**stored, prior=prior)


def _load_tensor(path: Path) -> TensorFactors:
    stored = map_arrays(path)
    regularization, alpha = (float(stored.pop(name)) for name in ("regularization", "alpha"))
    return TensorFactors(**stored, regularization=regularization, alpha=alpha)


def _load_sessions(path: Path, params: Generators) -> NearestSessions:
    stored = map_arrays(path)
    sessions, songs = (int(n) for n in stored["shape"])
    return NearestSessions(
        song_sessions=pattern(stored["song_indices"], stored["song_indptr"], (songs, sessions)),
        # In order of play, a song as often as it came: not to be sorted or summed up.
        session_songs=pattern(stored["indices"], stored["indptr"], (sessions, songs)),
        recency=stored["recency"],
        song_weight=stored["song_weight"],
        params=params.sessions,
    )


def pattern(indices: IntArray, indptr: IntArray, shape: tuple[int, int]) -> csr_matrix:
    """Return a sparse matrix of which only the places of its entries are kept."""
    nothing = np.empty(0, dtype=np.float32)
    parts = {"indices": indices, "indptr": indptr, "data": nothing}
    return as_rows(parts | {"shape": np.array(shape)})


def _load_artists(path: Path, songs: Catalogue) -> SameArtist:
    stored = map_arrays(path)
    return SameArtist(as_rows(stored), stored["popularity"], songs)


def load_ranker(folder: Path, feature_names: tuple[str, ...]) -> Ranker:
    """Read the boosters and check that they were trained on these features, in this order.

    Raises
    ------
    BundleError
        If the lists differ.
    """
    boosters = {
        name: lightgbm.Booster(model_file=folder / trees_file(name))
        for name in BOOSTERS
        if (folder / trees_file(name)).exists()
    }
    for name, booster in boosters.items():
        if tuple(booster.feature_name()) != feature_names:
            different = set(booster.feature_name()) ^ set(feature_names)
            raise BundleError(
                f"{folder / trees_file(name)} was trained on other features than this code "
                f"computes ({sorted(different)[:5]}, or their order); train again with `dvc repro`."
            )
    curves = json.loads((folder / CALIBRATION_FILE).read_text(encoding="utf-8"))
    return Ranker(
        trees=_trees(boosters["ranker"]),
        probabilities={
            name: (boosters[name], Calibration(np.array(curve["raw"]), np.array(curve["share"])))
            for name, curve in curves.items()
        },
        starts=_starts(boosters["starts"]) if "starts" in boosters else None,
    )


def _trees(booster: lightgbm.Booster) -> Trees:
    return Trees(booster, forest(booster))


def _starts(booster: lightgbm.Booster) -> Starts:
    return Starts(_trees(booster), booster.feature_name().index(SESSION_LENGTH))
