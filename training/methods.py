"""Methods that are asked the same queries, and what they answer."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.catalogue import IntArray

# Besides them every generator is a method by its own name.
SEGUE: Final = "segue"
POPULARITY: Final = "popularity"


@dataclass(frozen=True)
class Answers:
    """What every method answered: song indices, best first, shape (queries, TOP), -1 = none.

    `pool_ranks` (queries, `evaluate.CANDIDATES`) is the played song's rank by the ranker among the
    pool's best so many by `evaluate.fused_order`, NaN where it is not among them.
    """

    songs: dict[str, IntArray]
    in_pool: NDArray[np.bool_]
    pool_size: IntArray
    pool_ranks: NDArray[np.float64]
