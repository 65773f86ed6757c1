"""The ranker at the time of a request: LightGBM scores and calibrated probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass

import lightgbm
import numpy as np
from numpy.typing import NDArray

from features.catalogue import FloatArray
from serving.forest import Forest


@dataclass(frozen=True)
class Calibration:
    """A monotone curve from raw model output to observed share, by points."""

    raw: NDArray[np.float64]
    share: NDArray[np.float64]

    def __call__(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated probabilities."""
        return np.interp(raw, self.raw, self.share)


@dataclass(frozen=True)
class Ranker:
    """Orders a pool. `probabilities` holds `p_like` and `p_skip` where the source has them.

    `forest` is the booster laid out for few rows at a time, with equal scores.
    """

    booster: lightgbm.Booster
    probabilities: Mapping[str, tuple[lightgbm.Booster, Calibration]]
    forest: Forest | None = None

    def scores(self, features: FloatArray, threads: int = 1) -> NDArray[np.float64]:
        """Return one score a row; comparable within a query only."""
        if self.forest is not None:
            return self.forest.predict(features)
        return np.asarray(self.booster.predict(features, num_threads=threads))

    def probability(self, name: str, features: FloatArray) -> NDArray[np.float64] | None:
        """Return calibrated probabilities a row, None where the source has no such signal."""
        if name not in self.probabilities:
            return None
        booster, calibration = self.probabilities[name]
        return calibration(np.asarray(booster.predict(features, num_threads=1)))
