"""Day after day of events, in order of time, with bounded memory."""

from collections.abc import Iterator
from datetime import timedelta

import numpy as np

from features.times import DAY_US
from simulation.choice import Chooser
from simulation.draws import Array
from simulation.festivals import build_calendar
from simulation.market import Market, Store
from simulation.memory import Memory
from simulation.play import Columns, Day
from simulation.policy import Policy
from simulation.sessions import Agenda
from simulation.songs import midnight_us
from simulation.welcome import welcome
from simulation.world import World


def days(world: World) -> Iterator[Columns]:
    """Yield each day's events as columns sorted by time; days do not overlap.

    Events that run over midnight wait for the next day, those after the end are dropped: a
    log that ends cuts sessions off. At most one day and each listener's state are in memory.
    """
    size = world.size
    store = Store.build(world.songs)
    calendar = build_calendar(size.start, size.end)
    memory = Memory.empty(len(world.listeners))
    welcomed = np.zeros(len(world.listeners), dtype=bool)
    later: Columns | None = None
    for number in range(size.days):
        today = size.start + timedelta(days=number)
        midnight = midnight_us(today)
        market = Market.on(store, midnight)
        made = [later] if later is not None else []
        here = np.flatnonzero(world.listeners.signup_us < midnight + DAY_US)
        for users in _chunks(here, size.chunk_listeners):
            _welcome_new(users[~welcomed[users]], world, market, memory)
            agenda = Agenda.of(world.model.seed, today, users, world.listeners, memory, calendar)
            made += _day(world, market, memory).play(agenda)
        welcomed[here] = True
        memory.fade()
        today_columns, later = _cut(_joined(made), midnight + DAY_US)
        # Hold one copy of the day, not three, while the caller works on it.
        made.clear()
        yield today_columns


def _chunks(users: Array, length: int) -> list[Array]:
    return [users[low : low + length] for low in range(0, len(users), length)]


def _day(world: World, market: Market, memory: Memory) -> Day:
    chooser = Chooser(world.model, world.listeners, market, memory)
    return Day(world.model, chooser, Policy(world.model.seed, world.listeners, market), memory)


def _welcome_new(users: Array, world: World, market: Market, memory: Memory) -> None:
    if len(users):
        newcomers = world.listeners.signup_us[users] >= midnight_us(world.size.start)
        welcome(users, newcomers, world.model, world.listeners, market, memory)


def _joined(parts: list[Columns]) -> Columns:
    """Join columns and sort them by time, then listener and action."""
    names = parts[0] if parts else {}
    joined = {name: np.concatenate([part[name] for part in parts]) for name in names}
    if not joined:
        raise ValueError(
            "A day without events: give simulation/sizes.py more listeners or sessions."
        )
    order = np.lexsort((joined["action"], joined["user"], joined["ts_us"]))
    return {name: column[order] for name, column in joined.items()}


def _cut(columns: Columns, until_us: int) -> tuple[Columns, Columns]:
    """Split sorted columns at a moment."""
    row = int(np.searchsorted(columns["ts_us"], until_us))
    before = {name: column[:row] for name, column in columns.items()}
    return before, {name: column[row:] for name, column in columns.items()}
