"""Random numbers that depend on what they are for, not on when they are drawn.

Each number is a hash of (seed, listener, session, step, purpose). So a run gives the same events
however its listeners are cut into chunks, and nothing but a seed has to be kept.
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def mix(bits: Array) -> Array:
    """Scramble 64-bit words (the finaliser of SplitMix64, Steele et al. 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    return bits ^ (bits >> np.uint64(31))


def key(*parts: Array | int) -> Array:
    """Return one 64-bit key for each broadcast tuple of whole numbers."""
    state = np.zeros(1, dtype=np.uint64)
    for part in parts:
        # At least one dimension: numpy warns when a scalar wraps around, and not when arrays do.
        word = np.atleast_1d(np.asarray(part, dtype=np.int64)).view(np.uint64)
        state = mix(state + _GOLDEN * (word + np.uint64(1)))
    return state


def uniform(keys: Array, purpose: int) -> Array:
    """Return one number in [0, 1) a key; `purpose` names the decision it is for."""
    return fraction(mix(_salted(keys, purpose)))


def fraction(bits: Array) -> Array:
    """Return scrambled words as numbers in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def uniforms(keys: Array, purpose: int, count: int) -> Array:
    """Return `count` numbers in [0, 1) a key, shape (len(keys), count)."""
    lanes = _GOLDEN * np.arange(1, count + 1, dtype=np.uint64)
    return fraction(mix(mix(_salted(keys, purpose))[:, None] + lanes))


def pick(cumulative: Array, chance: Array) -> Array:
    """Return the index that `chance` falls into, row by row of cumulative shares."""
    below = chance[..., None] >= cumulative[..., :-1]
    return below.sum(axis=-1)


def _salted(keys: Array, purpose: int) -> Array:
    return keys + np.uint64((int(_GOLDEN) * (purpose + 1)) % 2**64)
