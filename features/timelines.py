"""Whose rows lie where in a table of events, to look up what came before a moment."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class Timelines:
    """Where each owner's rows lie in a table, those of each in order of time.

    `times` (rows,) are whole microseconds since 1970; `span_of` says from which to before which.
    """

    times: NDArray[np.int64]
    span_of: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, owners: pd.Series, moments: pd.Series) -> "Timelines":
        """Take two columns, ids and moments with a zone, of a table that is sorted by them."""
        names, starts = np.unique(owners.to_numpy(dtype=np.str_), return_index=True)
        spans = pairwise([*starts.tolist(), len(owners)])
        return cls(whole_microseconds(moments), dict(zip(names.tolist(), spans, strict=True)))

    def before(self, owner: str, moment_us: int) -> slice:
        """Return where an owner's rows of strictly before a moment lie; nowhere for a stranger."""
        start, end = self.span_of.get(owner, (0, 0))
        return slice(start, start + int(np.searchsorted(self.times[start:end], moment_us)))


def whole_microseconds(moments: pd.Series) -> NDArray[np.int64]:
    """Return moments with a zone in whole microseconds since 1970."""
    plain = moments.dt.tz_convert(None).to_numpy(dtype="datetime64[us]")
    return np.asarray(plain.astype(np.int64))
