"""What was shown, to whom, out of what, and how likely it was: the next training set.

Each answer of `/recommend` leaves one exposure: its candidates with the very features that the
ranker saw, their scores, and the slate with its propensities.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from features.columns import Event, Song
from features.times import EPOCH, microseconds
from features.words import Chosen

# zstd takes a tenth less room and half as long again.
CODEC: Final = "lz4_raw"
SHARED: Final = (
    Event.REQUEST,
    Event.TS,
    Event.USER,
    Event.VARIANT,
    Event.MODEL_VERSION,
    "temperature",
)
CANDIDATES: Final = (Song.ID, "score", Event.POSITION, Event.PROPENSITY)


@dataclass(frozen=True)
class Exposure:
    """One answer and what it was chosen from.

    Attributes
    ----------
    ts
        The server's time of the answer.
    request
        The request as JSON.
    songs, scores, features
        The candidates: ids (n,), final scores (n,), the ranker's input (n, features); no features
        where the answer was made without them.
    shown, propensities
        The slate: places among the candidates in order (k,), and the probability of each given
        those before it (k,).
    """

    request_id: str
    ts: datetime
    user_id: str | None
    variant: str
    model_version: str
    temperature: float
    degraded: tuple[str, ...]
    request: str
    songs: Sequence[str]
    scores: NDArray[np.float64]
    shown: NDArray[np.intp]
    propensities: NDArray[np.float64]
    features: NDArray[np.float32]
    feature_names: tuple[str, ...]

    @property
    def asked_ts(self) -> datetime:
        """The moment that the answer is for, which its features are of."""
        named = (json.loads(self.request).get("context") or {}).get("ts")
        return datetime.fromisoformat(named) if named else self.ts


def frame(found: Sequence[Exposure]) -> pd.DataFrame:
    """Return one row a candidate: the exposure's columns, `CANDIDATES` and the features.

    `position` counts from 1; it and `propensity` are NaN for what was not shown.
    """
    # Columns without rows have no types to agree on with the others.
    parts = [_frame(one) for one in found if len(one.songs)]
    if not parts:
        return pd.DataFrame(columns=[*SHARED, *CANDIDATES])
    return pd.concat(parts, ignore_index=True)


def packed(one: Exposure) -> tuple[dict[str, Any], bytes]:
    """Return an exposure as the header and body of a record; `unpacked` reads them."""
    songs, names = _encoded(one.songs), _names(one.feature_names)
    parts = (
        one.scores.astype("<f8", copy=False).data,
        one.propensities.astype("<f8", copy=False).data,
        # Column by column: what is the same for all candidates then takes next to nothing.
        np.ascontiguousarray(one.features.T, dtype="<f4").data,
        one.shown.astype("<i4").data,
        songs.data,
        names.data,
    )
    plain = b"".join(parts)
    body: bytes = pa.compress(plain, codec=CODEC, asbytes=True)
    header = {
        Event.REQUEST: one.request_id,
        Event.TS: microseconds(one.ts),
        Event.USER: one.user_id,
        Event.VARIANT: one.variant,
        Event.MODEL_VERSION: one.model_version,
        "temperature": one.temperature,
        "degraded": one.degraded,
        "request": one.request,
        "bytes": len(plain),
        "candidates": len(one.songs),
        "shown": len(one.shown),
        "features": one.features.shape[1],
        "names": len(names),
        "id_bytes": songs.itemsize,
        "name_bytes": names.itemsize,
    }
    return header, body


def unpacked(header: Mapping[str, Any], body: memoryview) -> Exposure:
    """Return the exposure of a record."""
    plain = pa.decompress(pa.py_buffer(body), header["bytes"], codec=CODEC, asbytes=True)
    n, k, count = header["candidates"], header["shown"], header["features"]
    scores, at = _array(plain, "<f8", n, 0)
    propensities, at = _array(plain, "<f8", k, at)
    features, at = _array(plain, "<f4", n * count, at)
    shown, at = _array(plain, "<i4", k, at)
    songs, at = _array(plain, f"S{header['id_bytes']}", n, at)
    names, at = _array(plain, f"S{header['name_bytes']}", header["names"], at)
    return Exposure(
        request_id=header[Event.REQUEST],
        ts=EPOCH + timedelta(microseconds=header[Event.TS]),
        user_id=header[Event.USER],
        variant=header[Event.VARIANT],
        model_version=header[Event.MODEL_VERSION],
        temperature=header["temperature"],
        degraded=tuple(header["degraded"]),
        request=header["request"],
        songs=[song.decode() for song in songs.tolist()],
        scores=scores,
        shown=shown.astype(np.intp),
        propensities=propensities,
        features=features.reshape(n, count, order="F"),
        feature_names=tuple(name.decode() for name in names.tolist()),
    )


def _frame(one: Exposure) -> pd.DataFrame:
    count = len(one.songs)
    position, propensity = np.full(count, np.nan), np.full(count, np.nan)
    position[one.shown] = np.arange(1, len(one.shown) + 1)
    propensity[one.shown] = one.propensities
    values = (one.request_id, one.ts, one.user_id, one.variant, one.model_version, one.temperature)
    columns = dict(zip(CANDIDATES, (one.songs, one.scores, position, propensity), strict=True))
    features = {name: one.features[:, i] for i, name in enumerate(one.feature_names)}
    shared = {name: [value] * count for name, value in zip(SHARED, values, strict=True)}
    return pd.DataFrame(shared | columns | features)


def _array(content: bytes, kind: str, count: int, at: int) -> tuple[NDArray[Any], int]:
    """Return an array that lies among bytes, and where it ends."""
    found = np.frombuffer(content, kind, count, at)
    return found, at + found.nbytes


def _encoded(words: Sequence[str]) -> NDArray[np.bytes_]:
    """Return words as UTF-8 of one width, as the catalogue keeps ids: none ends with a NUL."""
    # What was looked up need not be decoded for that.
    if isinstance(words, Chosen):
        return words.words.keys[words.at]
    return np.array([word.encode() for word in words], dtype=np.bytes_)


@lru_cache(maxsize=8)
def _names(names: tuple[str, ...]) -> NDArray[np.bytes_]:
    # Of a bundle they are the same for all its answers.
    return _encoded(names)
