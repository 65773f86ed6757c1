"""Sessions and their purpose: when, for what, in which mood, on what."""

from dataclasses import dataclass, fields, replace
from datetime import date

import numpy as np

from features.times import DAY_US
from simulation.draws import Array, key, pick, uniforms
from simulation.festivals import Calendar
from simulation.listeners import CHRONOTYPES, Listeners
from simulation.memory import Memory
from simulation.policy import SLATE
from simulation.songs import midnight_us
from simulation.vocabulary import (
    ACTIVITIES,
    OCCASIONS,
    PURPOSE_OF_ACTIVITY,
    PURPOSES,
    shares,
)

HOUR_US = DAY_US // 24
MOST_A_DAY = 5
ANSWERED_SHARE = 0.22
PURPOSE_SHARE = 0.9
FIRST_WEEKDAY = 3  # 1 January 1970 was a Thursday.
STYLE_SHARES = np.array([0.5, 0.27, 0.23])
_DAY_PURPOSE, _SESSION_PURPOSE = 1, 2
# Columns of the random numbers of a session.
_PAUSE, _ACTIVITY, _FESTIVE, _FOR_IT, _MOOD, _DEVICE, _STYLE, _ANSWERED, _STAMINA = range(9)


@dataclass(frozen=True)
class Sessions:
    """Sessions under way, one entry each; contexts are indexes into the vocabulary."""

    user: Array
    number: Array
    key: Array
    step: Array
    clock_us: Array
    daypart: Array
    occasion: Array
    mood: Array
    activity: Array
    device: Array
    style: Array
    answered: Array
    stamina: Array
    previous: Array
    run: Array
    skips: Array
    slot: Array
    request: Array
    slate: Array
    taken: Array

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self.user)

    def where(self, chosen: Array) -> "Sessions":
        """Return some of the sessions, by mask or index."""
        return replace(self, **{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    def beside(self, other: "Sessions") -> "Sessions":
        """Return these sessions and the other ones."""
        pairs = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Sessions(**{name: np.concatenate([one, two]) for name, one, two in pairs})


def _hours() -> Array:
    """Return cumulative shares of local start hours, (chronotypes, weekend, 24)."""
    hour = np.arange(24)
    peaks = [(8, 18), (11, 15), (18, 21), (22, 1)]
    table = np.empty((CHRONOTYPES, 2, 24))
    for kind, (main, other) in enumerate(peaks):
        for weekend in range(2):
            bump = np.full(24, 0.03)
            for weight, peak in ((1.0, main), (0.7, other), (0.4, 18)):
                bump += weight * np.exp(-0.5 * (_apart(hour, peak + 1.5 * weekend) / 2.4) ** 2)
            table[kind, weekend] = shares(bump)
    return table.cumsum(axis=2)


def _apart(hour: Array, peak: float) -> Array:
    return np.abs((hour - peak + 12) % 24 - 12)


def _activities() -> Array:
    """Return cumulative shares of activities by (weekend, local hour)."""
    hour = np.arange(24)
    near = {peak: np.exp(-0.5 * (_apart(hour, peak) / 1.5) ** 2) for peak in range(24)}
    weights = np.full((2, 24, len(ACTIVITIES)), 0.05)
    for weekend in range(2):
        wish = {
            "": np.full(24, 0.9),
            "working": (1 - weekend) * 1.6 * ((hour >= 9) & (hour < 17)),
            "commuting": (1 - 0.85 * weekend) * 2.2 * (near[8] + near[18]),
            "exercising": 0.9 * (near[7] + near[18]),
            "relaxing": 0.9 * near[20] + 0.5 * weekend,
            "partying": (0.15 + 1.6 * weekend) * (near[22] + near[23] + near[0]),
            "sleeping": 1.5 * (near[23] + near[1]),
            "cooking": 0.6 * (near[12] + near[19]),
        }
        weights[weekend] += np.stack([wish[name] for name in ACTIVITIES], axis=1)
    return (weights / weights.sum(axis=2, keepdims=True)).cumsum(axis=2)


def _cumulative(rows: list[list[float]]) -> Array:
    return np.array([shares(row) for row in rows]).cumsum(axis=1)


HOURS = _hours()
ACTIVITY_BY_HOUR = _activities()
# Rows are activities in order; columns none, calm, happy, sad, energetic, romantic, focused.
MOOD_BY_ACTIVITY = _cumulative(
    [
        [50, 10, 14, 8, 8, 7, 3],
        [35, 15, 6, 3, 5, 1, 35],
        [50, 12, 14, 6, 12, 3, 3],
        [30, 1, 8, 1, 60, 0, 0],
        [35, 35, 8, 10, 2, 10, 0],
        [30, 0, 30, 1, 35, 4, 0],
        [30, 60, 0, 6, 0, 4, 0],
        [50, 12, 25, 3, 8, 2, 0],
    ]
)
# Columns phone, desktop, speaker, car, tv.
DEVICE_BY_ACTIVITY = _cumulative(
    [
        [55, 20, 15, 5, 5],
        [25, 65, 10, 0, 0],
        [55, 0, 0, 45, 0],
        [95, 0, 3, 0, 2],
        [40, 12, 30, 0, 18],
        [25, 10, 55, 2, 8],
        [70, 2, 26, 0, 2],
        [35, 5, 52, 0, 8],
    ]
)
PURPOSE_CODE = np.array(
    [
        OCCASIONS.index(PURPOSE_OF_ACTIVITY[name]) if name in PURPOSE_OF_ACTIVITY else 0
        for name in ACTIVITIES
    ]
)
if len(PURPOSE_OF_ACTIVITY) != len(PURPOSES):
    raise ValueError("Every purpose in simulation/vocabulary.py needs an activity; add it.")


@dataclass(frozen=True)
class Agenda:
    """One UTC day's sessions of some listeners, opened one after another.

    `users` is sorted; `starts_us` is (users, MOST_A_DAY) in order of time, of which the first
    `count` are real and the first `opened` are past.
    """

    seed: int
    listeners: Listeners
    memory: Memory
    calendar: Calendar
    users: Array
    starts_us: Array
    count: Array
    opened: Array

    @classmethod
    def of(
        cls,
        seed: int,
        day: date,
        users: Array,
        listeners: Listeners,
        memory: Memory,
        calendar: Calendar,
    ) -> "Agenda":
        """Draw how many sessions each listener has on a day, and when they would start."""
        midnight = midnight_us(day)
        keys = key(seed, users, midnight // DAY_US, 1)
        chances = uniforms(keys, _DAY_PURPOSE, 2 * MOST_A_DAY + 1)
        count = _poisson(listeners.rate[users], chances[:, -1])
        hours = HOURS[listeners.chronotype[users], int(day.weekday() >= 5)][:, None, :]
        hour = pick(hours, chances[:, :MOST_A_DAY])
        local = ((hour + chances[:, MOST_A_DAY:-1]) * HOUR_US).astype(np.int64)
        shift = listeners.utc_offset[users][:, None] * (HOUR_US // 60)
        starts = midnight + (local - shift) % DAY_US
        real = (np.arange(MOST_A_DAY) < count[:, None]) & (
            starts > listeners.signup_us[users][:, None]
        )
        starts = np.sort(np.where(real, starts, midnight + 2 * DAY_US), axis=1)
        none = np.zeros(len(users), dtype=np.int64)
        return cls(seed, listeners, memory, calendar, users, starts, real.sum(axis=1), none)

    def open(self, users: Array) -> Sessions:
        """Open the next session of those of the listeners who have one left today."""
        rows = np.searchsorted(self.users, users)
        rows = rows[self.opened[rows] < self.count[rows]]
        users = self.users[rows]
        number = self.memory.sessions[users]
        keys = key(self.seed, users, number, 2)
        chances = uniforms(keys, _SESSION_PURPOSE, 9)
        pause = ((35 + 60 * chances[:, _PAUSE]) * (HOUR_US // 60)).astype(np.int64)
        start = self.starts_us[rows, self.opened[rows]]
        clock = np.maximum(start, self.memory.busy_until[users] + pause)
        self.opened[rows] += 1
        self.memory.sessions[users] += 1
        return self._session(users, number, keys, clock, chances)

    def _session(
        self, users: Array, number: Array, keys: Array, clock: Array, chances: Array
    ) -> Sessions:
        """Give sessions their purpose."""
        hour, weekday, local_day = local_time(clock, self.listeners.utc_offset[users])
        activity = pick(ACTIVITY_BY_HOUR[weekday // 5, hour], chances[:, _ACTIVITY])
        none = np.zeros(len(users), dtype=np.int64)
        return Sessions(
            user=users,
            number=number,
            key=keys,
            step=none,
            clock_us=clock,
            daypart=daypart_of(hour, weekday),
            occasion=self._occasion(users, local_day, activity, chances),
            mood=pick(MOOD_BY_ACTIVITY[activity], chances[:, _MOOD]),
            activity=activity,
            device=pick(DEVICE_BY_ACTIVITY[activity], chances[:, _DEVICE]),
            style=pick(STYLE_SHARES.cumsum()[None, :], chances[:, _STYLE]),
            answered=chances[:, _ANSWERED] < ANSWERED_SHARE,
            # Chance of ending after each song; sessions differ, which makes their tail heavy.
            stamina=0.03 + 0.12 * chances[:, _STAMINA],
            previous=self.memory.last[users],
            run=none,
            skips=none,
            slot=none,
            request=none,
            slate=np.full((len(users), SLATE), -1, dtype=np.int64),
            taken=np.zeros(len(users)),
        )

    def _occasion(self, users: Array, local_day: Array, activity: Array, chances: Array) -> Array:
        """Draw the festival of the day, else the purpose the activity stands for, else none."""
        calendar, country = self.calendar, self.listeners.country[users]
        column = local_day - midnight_us(calendar.first) // DAY_US
        column = np.clip(column, 0, calendar.share.shape[1] - 1)
        festive = chances[:, _FESTIVE] < calendar.share[country, column]
        for_it = chances[:, _FOR_IT] < PURPOSE_SHARE
        purpose = np.where(for_it, PURPOSE_CODE[activity], 0)
        return np.where(festive, calendar.occasion[country, column], purpose)


def daypart_of(hour: Array, weekday: Array) -> Array:
    """Return the daypart, 0 to 27: four blocks of six hours a weekday."""
    return weekday * 4 + hour // 6


def _poisson(rate: Array, chance: Array) -> Array:
    """Return Poisson counts by inversion, at most `MOST_A_DAY`."""
    terms = np.arange(MOST_A_DAY)
    factorial = np.cumprod(np.maximum(terms, 1))
    share = np.exp(-rate)[:, None] * rate[:, None] ** terms / factorial
    return (chance[:, None] >= share.cumsum(axis=1)).sum(axis=1)


def local_time(clock_us: Array, utc_offset: Array) -> tuple[Array, Array, Array]:
    """Return local hour (0-23), weekday (Monday is 0) and day number since 1970."""
    local = clock_us + utc_offset * (HOUR_US // 60)
    local_day = local // DAY_US
    return local % DAY_US // HOUR_US, (local_day + FIRST_WEEKDAY) % 7, local_day
