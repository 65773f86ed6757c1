"""Slates sampled from scores with known propensities (Plackett-Luce). Pure functions.

At each place a song is drawn among those left with probability proportional to
exp(score / temperature): Plackett, "The Analysis of Permutations", 1975. Adding independent Gumbel
noise to score / temperature and taking the largest k draws the same: Yellott, "The relationship
between Luce's choice axiom ...", 1977. At temperature 0 the best songs come in order.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.scores import best

Floats = NDArray[np.float64]
# Which of the candidates that are left (the second argument) the next place may take, given the
# places chosen so far.
Allowed = Callable[[Sequence[int], NDArray[np.bool_]], NDArray[np.bool_]]


@dataclass(frozen=True)
class Explore:
    """How a slate is drawn. The same seed draws the same slate from the same scores."""

    temperature: float
    seed: int

    @classmethod
    def of(cls, request_id: str, temperature: float) -> "Explore":
        """Take the seed from a request's id, so that its slate can be drawn again."""
        if temperature == 0:
            # Nothing is drawn.
            return cls(temperature, seed=0)
        digest = hashlib.sha256(request_id.encode()).digest()
        return cls(temperature, int.from_bytes(digest[:8], "big"))


def drawn(scores: Floats, k: int, explore: Explore) -> NDArray[np.intp]:
    """Return the candidates of a slate of `k`, in order."""
    if explore.temperature == 0:
        return best(scores, k)
    noise = np.random.default_rng(explore.seed).gumbel(size=len(scores))
    return best(scores / explore.temperature + noise, k)


def drawn_within(
    scores: Floats, k: int, explore: Explore, allowed: Allowed
) -> tuple[NDArray[np.intp], Floats]:
    """Return a slate each of whose places takes only what rules allow, and its propensities.

    New noise for each place: a song that a rule held back and lets go again competes afresh, so
    that each place is a Plackett-Luce draw among the allowed songs left. Ends early where nothing
    is allowed. The temperature is above 0.
    """
    random = np.random.default_rng(explore.seed)
    logits = scores / explore.temperature
    left = np.ones(len(scores), dtype=np.bool_)
    chosen: list[int] = []
    chances: list[float] = []
    while len(chosen) < k:
        may = allowed(chosen, left)
        if not may.any():
            break
        noise = random.gumbel(size=len(scores))
        place = int(np.argmax(np.where(may, logits + noise, -np.inf)))
        chances.append(float(np.exp(logits[place] - np.logaddexp.reduce(logits[may]))))
        chosen.append(place)
        left[place] = False
    return np.array(chosen, dtype=np.intp), np.array(chances)


def propensities(scores: Floats, chosen: NDArray[np.intp], temperature: float) -> Floats:
    """Return the probability of each place of a slate, given the places before it.

    exp(s_i / t) over the sum of the same of all candidates not shown before; 1 at temperature 0.
    The probability of the whole slate is their product.
    """
    if temperature == 0 or len(chosen) == 0:
        return np.ones(len(chosen))
    logits = scores / temperature
    never = np.ones(len(scores), dtype=np.bool_)
    never[chosen] = False
    # In logarithms and from the end: what is left after the best songs may be very unlikely.
    rest = np.logaddexp.reduce(logits[never]) if never.any() else -np.inf
    left = np.logaddexp.accumulate(np.concatenate([[rest], logits[chosen][::-1]]))[1:][::-1]
    return np.exp(logits[chosen] - left)
