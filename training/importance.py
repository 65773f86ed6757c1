"""What the ranker looks at: each feature's share of its gain, and each group's."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from features.pair_groups import GROUPS
from features.pairs import Pairs
from features.state import nobody
from serving.recommender import Recommender
from serving.retrieval import Retrieval

NO_SONGS: Final = np.empty(0, dtype=np.int32)


def importance(recommender: Recommender) -> pd.DataFrame:
    """Return each feature's share of the ranker's total gain and its group, largest first."""
    booster = recommender.ranker.trees.booster
    gain = booster.feature_importance("gain")
    table = pd.DataFrame({"feature": booster.feature_name(), "share": gain / max(gain.sum(), 1e-9)})
    group = feature_groups(recommender.retrieval)
    table["group"] = table["feature"].map(group)
    return table.sort_values("share", ascending=False, ignore_index=True, kind="stable")


def feature_groups(retrieval: Retrieval) -> Mapping[str, str]:
    """Return each feature's group: a generator, a function of `features.pair_groups`, or links."""
    pairs = Pairs(nobody(retrieval.songs), retrieval.songs, NO_SONGS)
    groups = dict.fromkeys(retrieval.feature_names, "links")
    for group in GROUPS:
        groups |= dict.fromkeys(group(pairs), group.__name__.replace("_", " "))
    for name in retrieval.names:
        groups |= {f"{name}_score": f"generator {name}", f"{name}_rank": f"generator {name}"}
    return groups | {"proposed_by": "agreement"}


def group_importance(features: pd.DataFrame) -> pd.DataFrame:
    """Return each group's share of the gain, largest first."""
    grouped = features.groupby("group")["share"].agg(["sum", "size"]).reset_index()
    grouped = grouped.rename(columns={"sum": "share", "size": "features"})
    return grouped.sort_values("share", ascending=False, ignore_index=True, kind="stable")
