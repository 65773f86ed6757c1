"""Questions to the simulator about what it knows: p(like), p(add), p(skip)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simulation.draws import Array
from simulation.model import DAYPARTS, Coefficients, Model, Probabilities
from simulation.sessions import daypart_of, local_time
from simulation.vocabulary import ACTIVITIES, MOODS, OCCASIONS, SURFACES

BLOCK = 262_144
_ARRAYS, _SCALARS = "truth.npz", "truth.json"
_IDS = ("user_ids", "song_ids", "utc_offset")
Labels = str | None | Sequence[str | None] | Array


@dataclass(frozen=True)
class Truth:
    """The probability model with the ids it is asked by."""

    model: Model
    user_ids: Array
    song_ids: Array
    utc_offset: Array

    @classmethod
    def load(cls, folder: Path) -> "Truth":
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            If the folder holds no truth.
        """
        folder = Path(folder)
        if not (folder / _ARRAYS).exists():
            raise FileNotFoundError(
                f"{folder} holds no {_ARRAYS}; write it with `python -m simulation`."
            )
        scalars = json.loads((folder / _SCALARS).read_text(encoding="utf-8"))
        chosen = scalars["coefficients"] | {"surface": tuple(scalars["coefficients"]["surface"])}
        with np.load(folder / _ARRAYS) as stored:
            arrays = dict(stored)
        own = {name: arrays.pop(name) for name in _IDS}
        return cls(Model(scalars["seed"], Coefficients(**chosen), **arrays), **own)

    def save(self, folder: Path) -> None:
        """Write the truth as npz and JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        model = self.model
        arrays: dict[str, Any] = {
            f.name: getattr(model, f.name)
            for f in fields(model)
            if f.name not in ("seed", "coefficients")
        }
        arrays |= {name: getattr(self, name) for name in _IDS}
        with (folder / _ARRAYS).open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        scalars = {"seed": model.seed, "coefficients": asdict(model.coefficients)}
        (folder / _SCALARS).write_text(json.dumps(scalars, indent=2) + "\n", encoding="utf-8")

    def probabilities(
        self,
        users: Sequence[str] | Array,
        songs: Sequence[Any] | Array,
        *,
        occasion: Labels = None,
        mood: Labels = None,
        activity: Labels = None,
        ts: Any = None,
        daypart: Any = None,
        surface: Labels = "recommended",
        position: Any = 1,
        fatigue: Any = 0,
    ) -> Probabilities:
        """Return the probabilities that one listening is liked, added, skipped, heard to the end.

        Parameters
        ----------
        users : n ids
            One a query.
        songs : ids, (n,) or (n, k)
            One song, or many, a query.
        occasion, mood, activity : label or n labels, optional
            The query's context; None or "" where there is none.
        ts : timestamp or n timestamps, optional
            UTC moment, from which the local daypart follows.
        daypart : int or n ints, optional
            Instead of `ts`: weekday (Monday is 0) times 4 plus block of six hours.
        surface : label or n labels
            One of `SURFACES`.
        position : int or array that broadcasts with `songs`
            Place in the recommended slate, from 1.
        fatigue : int or array that broadcasts with `songs`
            How often the song is among the listener's latest 32 listenings.

        Returns
        -------
        Probabilities
            like, add, skip and complete (1 - skip), each shaped as `songs`. Like and add are those
            of a song not yet liked or added: the events are written once.

        Raises
        ------
        KeyError
            If an id or a label is unknown; the message names it.
        """
        wanted = np.asarray(songs, dtype=object)
        user = _codes(self.user_ids, users, "user")
        one_each: dict[str, Array] = {
            "user": user,
            "occasion": _codes(OCCASIONS, occasion, "occasion"),
            "mood": _codes(MOODS, mood, "mood"),
            "activity": _codes(ACTIVITIES, activity, "activity"),
            "daypart": self._dayparts(user, ts, daypart),
            "surface": _codes(SURFACES, surface, "surface"),
        }
        if wanted.ndim == 2:
            one_each = {n: c[:, None] if c.ndim else c for n, c in one_each.items()}
        song = _codes(self.song_ids, wanted.ravel(), "song").reshape(wanted.shape)
        pairs = np.broadcast_arrays(song, position, np.log1p(fatigue), *one_each.values())
        shape = pairs[0].shape
        return self._in_blocks([np.ravel(part) for part in pairs], shape)

    def dayparts(self, users: Sequence[str] | Array, ts: Any) -> Array:
        """Return the local daypart (0 to 27) of UTC moments for listeners."""
        return self._dayparts(_codes(self.user_ids, users, "user"), ts, None)

    def _dayparts(self, user: Array, ts: Any, daypart: Any) -> Array:
        if ts is None:
            given = np.asarray(-1 if daypart is None else daypart, dtype=np.int64)
            if (given < -1).any() or (given >= DAYPARTS).any():
                raise ValueError(
                    f"A daypart is 0 to {DAYPARTS - 1}, got {given.min()}-{given.max()}."
                )
            return given
        moments = pd.to_datetime(pd.Series(np.atleast_1d(np.asarray(ts, dtype=object))), utc=True)
        clock = moments.dt.as_unit("us").astype("int64").to_numpy()
        hour, weekday, _ = local_time(clock, self.utc_offset[user])
        return daypart_of(hour, weekday)

    def _in_blocks(self, pairs: list[Array], shape: tuple[int, ...]) -> Probabilities:
        """Compute pair by pair, a block at a time, so that memory stays bounded."""
        done: list[Probabilities] = []
        for low in range(0, max(len(pairs[0]), 1), BLOCK):
            song, position, fatigue, user, occasion, mood, activity, daypart, surface = (
                part[low : low + BLOCK] for part in pairs
            )
            fit = self.model.fit(song, occasion, mood, activity, daypart)
            utility = self.model.affinity(user, song) + fit
            done.append(self.model.probabilities(utility, fatigue, position, surface))
        return Probabilities(*(np.concatenate(p).reshape(shape) for p in zip(*done, strict=True)))


def _codes(known: Sequence[str] | Array, asked: Any, what: str) -> Array:
    """Return positions of labels among the known ones; None means the empty label."""
    labels = np.asarray(asked, dtype=object)
    flat = pd.Series(labels.ravel(), dtype=object)
    if "" in known:
        flat = flat.where(flat.notna(), "")
    codes = pd.Index(np.asarray(known, dtype=object)).get_indexer(pd.Index(flat))
    if (codes < 0).any():
        unknown = flat[codes < 0].iloc[0]
        raise KeyError(f"The simulated world has no {what} {unknown!r}; ask with its own ids.")
    return codes.astype(np.int64).reshape(labels.shape)
