"""The single methods: what each is made by, and what its tuning may choose from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import numpy as np

from benchmarks.peers.counting import Peer

# Days; JSON knows no infinity.
FOREVER: Final = 1e6
FILL: Final = (0, 1, 2, 3, 5, 10, 20)
DECAY: Final = (0.3, 0.5, 0.7, 0.8, 0.9, 1.0)
HALF_LIFE: Final = (15.0, 30.0, 60.0, 120.0, 240.0, FOREVER)
UNIT: Final = ("sessions", "listeners")
NORM: Final = (0.0, 0.3, 0.5, 0.7, 1.0)
SHAPES: Final = ("same", "div", "linear", "quadratic", "log")
Space = dict[str, Sequence[Any]]


@dataclass(frozen=True)
class Method:
    """`made_by` is module:class within this package; `space` holds the choices of each setting."""

    made_by: str
    space: Mapping[str, Sequence[Any]]

    def make(self, settings: Mapping[str, Any]) -> Peer:
        """Return the method with these settings, the others as its authors have them."""
        module, name = self.made_by.split(":")
        peer: Peer = getattr(import_module(f"benchmarks.peers.{module}"), name)(**settings)
        return peer


def draws(space: Mapping[str, Sequence[Any]], trials: int, seed: int) -> list[dict[str, Any]]:
    """Return settings to try: the defaults first, then random choices, no two the same."""
    random = np.random.default_rng(seed)
    found: list[dict[str, Any]] = [{}]
    for _ in range(100 * trials):
        if len(found) == trials:
            break
        one = {name: c[int(random.integers(len(c)))] for name, c in space.items()}
        if one not in found:
            found.append(one)
    return found


CONTEXT: Final[Space] = {"fill": FILL, "last": (1, 2, 3, 5, 10, 20), "decay": DECAY}
NEAR: Final[Space] = {
    "fill": FILL,
    "sample": (200, 500, 1000, 5000),
    "k": (50, 100, 200, 500, 1000),
}
LAMBDA: Final[Space] = {
    "lambda_place": (0.5, 1.0, 2.0, 4.0, 8.0),
    "lambda_days": (20.0, 50.0, 100.0, 200.0, 500.0, FOREVER),
    "lambda_distance": (0.5, 1.0, 2.0, 4.0, 8.0),
}
IDF: Final = (0.0, 0.5, 1.0, 5.0, 10.0)

METHODS: Final[dict[str, Method]] = {
    "popularity": Method(
        "counting:Popularity",
        {"half_life_days": (0.5, 1.0, 2.0, 4.0, 7.0, 10.0, 20.0, 30.0, 60.0, 120.0, FOREVER)},
    ),
    "own repeats": Method(
        "counting:OwnRepeats",
        {
            "half_life_days": (3.0, 7.0, 14.0, 30.0, 60.0, 120.0, FOREVER),
            "power": (0.0, 0.5, 1.0),
            "session_weight": (0.0, 0.1, 1.0, 10.0),
        },
    ),
    "transitions": Method(
        "counting:Transitions",
        {
            "fill": FILL,
            "last": (1, 2, 3),
            "decay": (0.1, *DECAY),
            "half_life_days": HALF_LIFE,
            "norm": NORM,
        },
    ),
    "sequential rules": Method(
        "counting:SequentialRules",
        {
            "fill": FILL,
            "last": (1, 2, 3),
            "decay": (0.1, *DECAY),
            "steps": (2, 3, 5, 10, 20),
            "shape": SHAPES,
            "pruning": (0, 20, 50, 100),
            "half_life_days": HALF_LIFE,
            "norm": NORM,
        },
    ),
    "item kNN": Method(
        "counting:ItemNeighbours",
        CONTEXT
        | {
            "unit": UNIT,
            "half_life_days": HALF_LIFE,
            "damping": (0.0, 1.0, 3.0, 10.0, 20.0, 50.0),
            "power": (0.3, 0.5, 0.7),
            "neighbours": (50, 100, 200, 500),
        },
    ),
    "EASE": Method(
        "counting:Ease",
        CONTEXT
        | {
            "last": (3, 5, 10, 20, 50),
            "unit": UNIT,
            "half_life_days": HALF_LIFE,
            "regularization": (5.0, 10.0, 30.0, 100.0, 300.0),
        },
    ),
    "SKNN": Method("neighbours:Sknn", NEAR),
    "V-SKNN": Method(
        "neighbours:VSknn", NEAR | {"weighting": SHAPES, "weighting_score": SHAPES, "idf": IDF}
    ),
    "STAN": Method("neighbours:Stan", NEAR | LAMBDA),
    "VSTAN": Method(
        "neighbours:Vstan",
        NEAR | LAMBDA | {"lambda_match": (0.5, 1.0, 2.0, 4.0, 8.0), "idf": IDF},
    ),
    "ALS": Method(
        "factors:Als",
        CONTEXT
        | {
            "last": (3, 5, 10, 20, 50),
            "unit": UNIT,
            "half_life_days": HALF_LIFE,
            "factors": (32, 64, 128, 256),
            "regularization": (0.01, 0.05, 0.2, 1.0, 5.0),
            "alpha": (1.0, 5.0, 20.0, 50.0),
            "iterations": (5, 10, 20),
        },
    ),
    "BPR": Method(
        "factors:Bpr",
        CONTEXT
        | {
            "last": (1, 3, 5, 10, 20),
            "unit": UNIT,
            "factors": (32, 64, 128),
            "learning_rate": (0.01, 0.03, 0.1),
            "regularization": (0.001, 0.01, 0.05),
            "iterations": (50, 100, 200),
            "cosine": (False, True),
        },
    ),
    "SASRec": Method(
        "sequence:SasRec",
        {
            "fill": FILL,
            "unit": UNIT,
            "factors": (32, 64),
            "blocks": (1, 2),
            "dropout": (0.1, 0.3, 0.5),
            "length": (10, 15),
            "learning_rate": (0.001, 0.003, 0.006),
            "epochs": (10, 20, 30),
        },
    ),
}
