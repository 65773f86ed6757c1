"""What every booster is fitted with: settings, the weights of queries, a progress bar."""

import sys

import lightgbm
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from features.mistakes import Mistake
from features.params import OutcomeWeights, Ranker
from training.rows import Rows
from training.sessions import OUTCOMES


def query_weights(rows: Rows, weights: OutcomeWeights, value: float) -> NDArray[np.float32]:
    """Return each row's weight: that of what became of its query's answer, to the power `value`.

    Lambdarank divides by the query's ideal DCG, so that a grade of the next song would cancel out.
    What an outcome is worth therefore weighs the whole query.
    """
    by_outcome = np.array([getattr(weights, outcome) for outcome in OUTCOMES], dtype=np.float32)
    return (by_outcome**value)[rows.outcome]


def settings_of(params: Ranker) -> dict[str, object]:
    """Return LightGBM's settings that ranker and probabilities share."""
    return {
        "learning_rate": params.learning_rate,
        "num_leaves": params.num_leaves,
        "min_data_in_leaf": params.min_data_in_leaf,
        "feature_fraction": params.feature_fraction,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "seed": params.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def train(
    settings: dict[str, object], data: lightgbm.Dataset, rounds: int, what: str
) -> lightgbm.Booster:
    """Train with a progress bar, and say so where the trees tell no rows apart.

    Raises
    ------
    Mistake
        If LightGBM does not take these settings for these rows.
    """
    with tqdm(total=rounds, desc=what, unit="tree", mininterval=1) as bar:
        try:
            booster = lightgbm.train(
                settings, data, num_boost_round=rounds, callbacks=[lambda _: bar.update()]
            )
        except lightgbm.basic.LightGBMError as error:
            raise Mistake(
                f"LightGBM cannot fit `{what}` with these settings ({str(error).strip()}); make "
                "those under `ranker` in params.yaml less extreme, or give more label queries."
            ) from error
    if not booster.feature_importance().any():
        sys.stdout.write(
            f"LightGBM found nothing to split by: `{what}` scores all songs alike. Lower "
            "`min_data_in_leaf` under `ranker` in params.yaml, or give more label queries.\n"
        )
    return booster
