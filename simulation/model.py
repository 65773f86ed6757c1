"""The probability model: what a listener does with a song in a context.

The formulas are in docs/simulation.md; this is the one place that computes them, for the
simulation as for the questions asked of it afterwards.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from simulation.draws import Array, fraction, key
from simulation.vocabulary import (
    ACTIVITY_ENERGY,
    ACTIVITY_WEIGHT,
    FESTIVALS,
    MOOD_AUDIO,
    OCCASIONS,
)

DAYPARTS = 28
TEENS_MIDDLE, TEENS_WIDTH = 16, 4.0
_PAIR_PURPOSE = 99
# Energy asked for by the four blocks of the local day, the night first.
_BLOCK_ENERGY = np.array([-0.6, 0.1, 0.3, 0.2])
_WEEKEND_EVENING = 0.3


@dataclass(frozen=True)
class Coefficients:
    """Weights of the utility, and the logits of the three actions."""

    taste: float = 3.2
    language: float = 0.9
    nostalgia: float = 0.8
    popularity: float = 0.2
    favourite: float = 0.5
    pair: float = 0.5
    occasion: float = 1.2
    mood: float = 0.55
    activity: float = 0.9
    daypart: float = 0.5
    centre: float = 1.6
    skip: float = 1.3
    skip_utility: float = 0.8
    skip_fatigue: float = 0.55
    skip_position: float = 0.22
    like: float = -5.3
    like_utility: float = 0.8
    like_fatigue: float = 0.3
    like_position: float = 0.35
    add: float = -6.1
    add_utility: float = 0.7
    add_fatigue: float = 0.3
    add_position: float = 0.35
    # Added to the skip logit: library, search, radio, recommended.
    surface: tuple[float, ...] = (-0.1, -0.25, 0.1, 0.0)


class Probabilities(NamedTuple):
    """Chances that one listening brings a like, that it brings an add, that it is skipped."""

    like: Array
    add: Array
    skip: Array

    @property
    def complete(self) -> Array:
        """Chance that it is heard to its end: whatever is not skipped is."""
        return 1.0 - self.skip


@dataclass(frozen=True)
class Model:
    """Everything the probabilities depend on, as columns by listener and by song number."""

    seed: int
    coefficients: Coefficients
    taste: Array
    language_liking: Array
    birth_year: Array
    favourites: Array
    vector: Array
    language: Array
    artist: Array
    year: Array
    popularity: Array
    audio: Array
    occasion: Array

    @cached_property
    def fame(self) -> Array:
        """Popularity with mean 0 and deviation 1 over the catalogue."""
        return (self.popularity - self.popularity.mean()) / self.popularity.std()

    @cached_property
    def occasion_fit(self) -> Array:
        """Fit of (occasion, song): 1 for its own, negative for festival songs out of season."""
        own = np.arange(len(OCCASIONS))[:, None] == self.occasion[None, :]
        festive = np.isin(self.occasion, [OCCASIONS.index(f) for f in FESTIVALS])
        sleepy = self.occasion == OCCASIONS.index("sleep")
        loud = np.isin(self.occasion, [OCCASIONS.index(p) for p in ("party", "workout")])
        fit = np.where(own, 1.0, np.where(festive, -1.2, 0.0))
        fit[OCCASIONS.index("sleep"), loud] = -0.8
        fit[OCCASIONS.index("party"), sleepy] = -0.8
        fit[OCCASIONS.index("workout"), sleepy] = -0.8
        fit[0, ~festive] = 0.0
        return fit.astype(np.float32)

    @cached_property
    def mood_fit(self) -> Array:
        """Fit of (mood, song): nearness of energy, valence and acousticness, mean 0 a mood."""
        points = self.audio[:, [0, 1, 3]]
        distance = ((points[None, :, :] - MOOD_AUDIO[:, None, :]) ** 2).sum(axis=2)
        fit = np.clip((distance.mean(axis=1, keepdims=True) - distance) / 0.12, -1.5, 1.5)
        fit[0] = 0.0
        return fit.astype(np.float32)

    @cached_property
    def activity_fit(self) -> Array:
        """Fit of (activity, song): nearness of the energy asked for, times how much it matters."""
        distance = (self.audio[None, :, 0] - ACTIVITY_ENERGY[:, None]) ** 2
        fit = (distance.mean(axis=1, keepdims=True) - distance) / 0.08
        return (np.clip(fit, -1.5, 1.5) * ACTIVITY_WEIGHT[:, None]).astype(np.float32)

    @cached_property
    def daypart_fit(self) -> Array:
        """Fit of (daypart, song): energy above the middle where the hour asks for it."""
        asked = np.tile(_BLOCK_ENERGY, 7)
        asked[[4 * 4 + 3, 5 * 4 + 3]] += _WEEKEND_EVENING
        energy = (self.audio[:, 0] - self.audio[:, 0].mean()) / self.audio[:, 0].std()
        return np.asarray(asked[:, None] * energy[None, :], dtype=np.float32)

    def affinity(self, listeners: Array, songs: Array) -> Array:
        """Return the lasting part of the utility of listener-song pairs (broadcast)."""
        c = self.coefficients
        match = np.einsum("...d,...d->...", self.taste[listeners], self.vector[songs])
        gap = (self.year[songs] - self.birth_year[listeners] - TEENS_MIDDLE) / TEENS_WIDTH
        favourite = (self.favourites[listeners] == self.artist[songs][..., None]).any(axis=-1)
        pair = fraction(key(self.seed, _PAIR_PURPOSE, listeners, songs)) - 0.5
        return (
            c.taste * match
            + c.language * self.language_liking[listeners, self.language[songs]]
            + c.nostalgia * np.exp(-0.5 * gap * gap)
            + c.popularity * self.fame[songs]
            + c.favourite * favourite
            # A uniform number has deviation 1 / sqrt(12).
            + c.pair * np.sqrt(12.0) * pair
            - c.centre
        )

    def fit(
        self, songs: Array, occasion: Array, mood: Array, activity: Array, daypart: Array
    ) -> Array:
        """Return the passing part of the utility: how songs suit contexts (codes, broadcast).

        A daypart of -1 is unknown and adds nothing.
        """
        c = self.coefficients
        hour = np.where(daypart >= 0, self.daypart_fit[daypart, songs], 0.0)
        return (
            c.occasion * self.occasion_fit[occasion, songs]
            + c.mood * self.mood_fit[mood, songs]
            + c.activity * self.activity_fit[activity, songs]
            + c.daypart * hour
        )

    def probabilities(
        self, utility: Array, fatigue: Array, position: Array, surface: Array
    ) -> Probabilities:
        """Return the chances of the three actions.

        Parameters
        ----------
        utility : array
            `affinity` plus `fit`.
        fatigue : array
            log(1 + plays of the song among the listener's latest 32 listenings).
        position : array
            Place in the recommended slate from 1; 1 elsewhere.
        surface : array
            Index into `SURFACES`.
        """
        c = self.coefficients
        depth = np.log(position)
        skip = _sigmoid(
            c.skip
            - c.skip_utility * utility
            + c.skip_fatigue * fatigue
            + c.skip_position * depth
            + np.asarray(c.surface)[surface]
        )
        like = (
            c.like + c.like_utility * utility - c.like_fatigue * fatigue - c.like_position * depth
        )
        add = c.add + c.add_utility * utility - c.add_fatigue * fatigue - c.add_position * depth
        # Only a song heard to its end is liked or added.
        return Probabilities((1 - skip) * _sigmoid(like), (1 - skip) * _sigmoid(add), skip)


def _sigmoid(logit: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-logit))
