"""Sessions played song by song: one step of all sessions under way at once."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from simulation.choice import Chooser
from simulation.draws import Array, key, uniforms
from simulation.memory import NONE, Memory
from simulation.model import Model, Probabilities
from simulation.policy import SLATE, Policy
from simulation.sessions import Agenda, Sessions, daypart_of, local_time
from simulation.vocabulary import SURFACES

LONGEST = 60
RECOMMENDED = SURFACES.index("recommended")
# Codes of `ACTIONS` in simulation/tables.py.
PLAY, SKIP, LIKE, UNLIKE, ADD, REMOVE, DISLIKE = range(7)
TAKE_BACK, DISLIKES = 0.02, 0.006
# How early a skip comes: half in the first seconds, as Lamere (2014) saw on Spotify.
EARLIEST, LATEST, EARLINESS = 0.005, 0.92, 5.4
_PURPOSE = 50
_SKIP, _SHARE, _LIKE, _ADD, _DISLIKE, _BACK, _GAP, _END, _WHEN, _ENTER = range(10)
Columns = dict[str, Array]


@dataclass(frozen=True)
class Day:
    """What a day's sessions are played with."""

    model: Model
    chooser: Chooser
    policy: Policy
    memory: Memory

    def play(self, agenda: Agenda) -> list[Columns]:
        """Play the day's sessions to their ends, one a listener at a time; return the events."""
        made: list[Columns] = []
        sessions = agenda.open(agenda.users)
        while len(sessions):
            keys = key(sessions.key.view(np.int64), sessions.step)
            chances = uniforms(keys, _PURPOSE, 10)
            sessions, heard = self._next_song(sessions, keys)
            made += self._listen(sessions, heard, chances)
            sessions = self._move_on(sessions, heard, chances[:, _GAP])
            self.memory.busy_until[sessions.user] = sessions.clock_us
            ends = _ends(sessions, chances[:, _END])
            if ends.any():
                sessions = sessions.where(~ends).beside(agenda.open(sessions.user[ends]))
        return made

    def _next_song(self, sessions: Sessions, keys: Array) -> tuple[Sessions, Columns]:
        """Choose, or be given, the next song; note position and propensity where given."""
        count = len(sessions)
        heard = {
            "song": np.empty(count, dtype=np.int64),
            "surface": np.full(count, RECOMMENDED),
            "position": np.zeros(count, dtype=np.int64),
            "propensity": np.full(count, np.nan),
        }
        own, given = np.flatnonzero(~sessions.answered), np.flatnonzero(sessions.answered)
        if len(own):
            chosen = self.chooser.choose(sessions.where(own), keys[own])
            heard["song"][own], heard["surface"][own] = chosen
        if len(given):
            sessions = _open_slates(sessions)
            slate, taken = sessions.slate[given], sessions.taken[given]
            song, mass = self.policy.draw(sessions.user[given], keys[given], slate)
            heard["song"][given] = song
            heard["position"][given] = sessions.slot[given] + 1
            heard["propensity"][given] = mass / (1.0 - taken)
            sessions.slate[given, sessions.slot[given]] = song
            sessions.taken[given] += mass
        return sessions, heard

    def _listen(self, sessions: Sessions, heard: Columns, chances: Array) -> list[Columns]:
        """Draw what the listeners do; note it, and return the events."""
        users, songs = sessions.user, heard["song"]
        odds = self.odds(sessions, heard)
        skipped = chances[:, _SKIP] < odds.skip
        length = self.chooser.market.store.songs.duration_ms[songs]
        share = np.where(skipped, EARLIEST + LATEST * chances[:, _SHARE] ** EARLINESS, 1.0)
        heard |= {"skipped": skipped, "played_ms": (share * length).astype(np.int64)}
        finished = 1.0 - odds.skip
        likes = ~skipped & (chances[:, _LIKE] < odds.like / finished)
        adds = ~skipped & (chances[:, _ADD] < odds.add / finished)
        dislikes = skipped & (chances[:, _DISLIKE] < DISLIKES)
        back = skipped & (chances[:, _BACK] < TAKE_BACK)
        self.memory.hear(users, songs, skipped, chances[:, _ENTER])
        acts = {
            LIKE: _among(likes, lambda rows: self.memory.keep("liked", users[rows], songs[rows])),
            ADD: _among(adds, lambda rows: self.memory.keep("added", users[rows], songs[rows])),
            UNLIKE: _among(back, lambda rows: self.memory.drop("liked", users[rows], songs[rows])),
            REMOVE: _among(back, lambda rows: self.memory.drop("added", users[rows], songs[rows])),
            DISLIKE: np.flatnonzero(dislikes),
        }
        events = _events(sessions, heard, chances[:, _WHEN])
        after = [_acted(events, rows, action) for action, rows in acts.items() if len(rows)]
        return [{name: column for name, column in events.items() if name != "later_us"}, *after]

    def odds(self, sessions: Sessions, heard: Columns) -> Probabilities:
        """Return the chances of like, add and skip of the songs about to be heard."""
        users, songs = sessions.user, heard["song"]
        context = (sessions.occasion, sessions.mood, sessions.activity, sessions.daypart)
        utility = self.model.affinity(users, songs) + self.model.fit(songs, *context)
        fatigue = self.memory.fatigue(users, songs)
        position = np.maximum(heard["position"], 1)
        return self.model.probabilities(utility, fatigue, position, heard["surface"])

    def _move_on(self, sessions: Sessions, heard: Columns, chance: Array) -> Sessions:
        songs, artist = heard["song"], self.chooser.market.store.songs.artist
        same = artist[songs] == artist[sessions.previous]
        pause = heard["played_ms"] * 1000 + (1e6 + 4e6 * chance).astype(np.int64)
        clock = sessions.clock_us + pause
        offset = self.chooser.listeners.utc_offset[sessions.user]
        hour, weekday, _ = local_time(clock, offset)
        return replace(
            sessions,
            clock_us=clock,
            daypart=daypart_of(hour, weekday),
            previous=songs,
            step=sessions.step + 1,
            run=np.where(same, sessions.run + 1, 0),
            skips=np.where(heard["skipped"], sessions.skips + 1, 0),
            slot=sessions.slot + sessions.answered,
        )


def _ends(sessions: Sessions, chance: Array) -> Array:
    """Tell which sessions end; a run of skips makes leaving likelier."""
    leaves = sessions.stamina * np.where(sessions.skips >= 3, 1.6, 1.0)
    return (chance < leaves) | (sessions.step >= LONGEST)


def _open_slates(sessions: Sessions) -> Sessions:
    """Begin a new request wherever a slate has been heard to its end."""
    over = sessions.slot == SLATE
    return replace(
        sessions,
        slot=np.where(over, 0, sessions.slot),
        request=sessions.request + over,
        slate=np.where(over[:, None], NONE, sessions.slate),
        taken=np.where(over, 0.0, sessions.taken),
    )


def _among(mask: Array, act: Callable[[Array], Array]) -> Array:
    """Return the rows of a mask for which `act` (rows -> mask) says yes."""
    rows = np.flatnonzero(mask)
    return rows[act(rows)] if len(rows) else rows


def _events(sessions: Sessions, heard: Columns, chance: Array) -> Columns:
    """Return the listenings of a step as event columns; `ts_us` is when they began."""
    into = 0.1 + 0.8 * chance
    return {
        "step": sessions.step,
        "ts_us": sessions.clock_us,
        "later_us": sessions.clock_us + (heard["played_ms"] * 1000 * into).astype(np.int64),
        "user": sessions.user,
        "song": heard["song"],
        "session": sessions.number,
        "action": np.where(heard["skipped"], SKIP, PLAY),
        "played_ms": heard["played_ms"],
        "surface": heard["surface"],
        "occasion": sessions.occasion,
        "mood": sessions.mood,
        "activity": sessions.activity,
        "device": sessions.device,
        "request": np.where(sessions.answered, sessions.request, NONE),
        "position": heard["position"],
        "propensity": heard["propensity"],
    }


def _acted(events: Columns, rows: Array, action: int) -> Columns:
    """Return what was done to some of the listenings while they played."""
    taken = {name: column[rows] for name, column in events.items()}
    # A millisecond apart, so that two actions on one listening have an order.
    taken["ts_us"] = taken.pop("later_us") + 1000 * action
    taken["action"] = np.full(len(rows), action)
    taken["played_ms"] = np.full(len(rows), NONE)
    return taken
