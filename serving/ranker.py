"""The ranker at the time of a request: LightGBM scores and calibrated probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import lightgbm
import numpy as np
from numpy.typing import NDArray

from features.catalogue import FloatArray
from serving.forest import Forest

# The feature that counts the session's songs.
SESSION_LENGTH: Final = "prefix_length"


@dataclass(frozen=True)
class Calibration:
    """A monotone curve from raw model output to observed share, by points."""

    raw: NDArray[np.float64]
    share: NDArray[np.float64]

    def __call__(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated probabilities."""
        return np.interp(raw, self.raw, self.share)


@dataclass(frozen=True)
class Trees:
    """One booster; `forest` is the same laid out for few rows at a time, with equal scores."""

    booster: lightgbm.Booster
    forest: Forest | None = None

    def scores(self, features: FloatArray) -> NDArray[np.float64]:
        """Return one score a row."""
        if self.forest is not None:
            return self.forest.predict(features)
        # Raw: the leaves added up, as the forest has them, whatever the objective.
        return np.asarray(self.booster.predict(features, raw_score=True, num_threads=1))


@dataclass(frozen=True)
class Starts:
    """What is added where no song of a session is known: column `place` is then 0."""

    trees: Trees
    place: int


@dataclass(frozen=True)
class Ranker:
    """Orders a pool. `probabilities` holds `p_like` and `p_skip` where the source has them.

    Session starts have further trees, whose log odds are added up with the scores of `trees`:
    either alone is the better one in some world, the sum is near it in both (docs/benchmarks.md).
    """

    trees: Trees
    probabilities: Mapping[str, tuple[lightgbm.Booster, Calibration]]
    starts: Starts | None = None

    def scores(self, features: FloatArray) -> NDArray[np.float64]:
        """Return one score a row; comparable within a query only."""
        scores = self.trees.scores(features)
        if self.starts is not None:
            start = features[:, self.starts.place] == 0
            if start.any():
                scores[start] += self.starts.trees.scores(features[start])
        return scores

    def probability(self, name: str, features: FloatArray) -> NDArray[np.float64] | None:
        """Return calibrated probabilities a row, None where the source has no such signal."""
        if name not in self.probabilities:
            return None
        booster, calibration = self.probabilities[name]
        return calibration(np.asarray(booster.predict(features, num_threads=1)))
