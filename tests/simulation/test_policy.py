import numpy as np
import pandas as pd
import pytest

from features.columns import Action, Event, Song, User
from simulation.draws import key
from simulation.market import Market, Store
from simulation.policy import SLATE, Policy
from simulation.songs import DAY_US, midnight_us
from simulation.world import World
from tests.simulation.conftest import SEED, Written


@pytest.fixture(scope="module")
def store(world: World) -> Store:
    return Store.build(world.songs)


@pytest.fixture(scope="module")
def policy(world: World, store: Store) -> Policy:
    market = Market.on(store, midnight_us(world.size.start) + 7 * DAY_US)
    return Policy(SEED, world.listeners, market)


def test_propensities_sum_to_one_and_unreleased_songs_have_none(policy: Policy) -> None:
    users = np.arange(len(policy.listeners))
    songs = np.tile(np.arange(len(policy.market.store.songs)), (len(users), 1))
    chance = policy.probability(users, songs)
    np.testing.assert_allclose(chance.sum(axis=1), 1.0)
    released = policy.market.released
    assert not released.all()
    assert (chance[:, ~released] == 0).all()
    assert (chance[:, released] > 0).all()


@pytest.mark.parametrize("user", [0, 1, 2, 3])
def test_songs_are_drawn_as_often_as_stated(policy: Policy, user: int) -> None:
    draws = 40_000
    users = np.full(draws, user)
    slate = np.full((draws, SLATE), -1)
    songs, mass = policy.draw(users, key(9, np.arange(draws), user), slate)
    count = np.bincount(songs, minlength=len(policy.market.store.songs))
    chance = policy.probability(np.array([user]), np.arange(len(count))[None, :])[0]
    np.testing.assert_allclose(mass, chance[songs])
    deviation = np.sqrt(draws * chance * (1 - chance))
    assert (np.abs(count - draws * chance) <= 5 * deviation + 1).all()
    assert policy.variant[:4].min() < policy.variant[:4].max()


def test_a_slot_never_repeats_the_slate_and_its_propensity_is_of_what_is_left(
    policy: Policy,
) -> None:
    draws, user = 40_000, 1
    everything = np.arange(len(policy.market.store.songs))[None, :]
    chance = policy.probability(np.array([user]), everything)[0]
    before = np.argsort(-chance)[:3]
    slate = np.full((draws, SLATE), -1)
    slate[:, :3] = before
    taken = chance[before].sum()
    keys = key(11, np.arange(draws))
    songs, mass = policy.draw(np.full(draws, user), keys, slate)
    assert not np.isin(songs, before).any()
    likeliest = np.argsort(-chance)[3]
    propensity = chance[likeliest] / (1 - taken)
    expected = draws * propensity
    assert abs((songs == likeliest).sum() - expected) < 5 * np.sqrt(expected)
    np.testing.assert_allclose(mass, chance[songs])


def test_logged_propensities_are_those_of_the_policy(
    written: Written, world: World, store: Store
) -> None:
    heard = written.events[
        written.events[Event.REQUEST].notna() & written.events[Event.ACTION].isin(Action.LISTENINGS)
    ].copy()
    number = {name: i for i, name in enumerate(world.songs.ids)}
    owner = {name: i for i, name in enumerate(world.listeners.ids)}
    heard["song"], heard["user"] = heard[Event.SONG].map(number), heard[Event.USER].map(owner)
    started = heard.groupby(Event.SESSION)[Event.TS].transform("min").dt.floor("D")
    checked = 0
    for day, rows in heard.groupby(started):
        market = Market.on(store, midnight_us(pd.Timestamp(day).date()))
        mass = Policy(SEED, world.listeners, market).probability(
            rows["user"].to_numpy(), rows["song"].to_numpy()
        )
        before = rows.assign(mass=mass).groupby(Event.REQUEST)["mass"].cumsum() - mass
        # A session that starts late because of the one before belongs to the day it was due.
        right = np.isclose(rows[Event.PROPENSITY], mass / (1 - before))
        assert right.mean() > 0.9
        checked += len(rows)
    assert checked > 2_000


def test_requests_have_positions_versions_and_no_song_twice(written: Written) -> None:
    events = written.events
    heard = events[events[Event.ACTION].isin(Action.LISTENINGS)]
    given = heard[heard[Event.SURFACE] == "recommended"]
    logged = (
        Event.REQUEST, Event.POSITION, Event.PROPENSITY, Event.VARIANT, Event.MODEL_VERSION,
    )  # fmt: skip
    for name in logged:
        assert given[name].notna().all()
        assert heard.loc[heard[Event.SURFACE] != "recommended", name].isna().all()
    for _, request in given.groupby(Event.REQUEST):
        assert request[Event.POSITION].tolist() == list(range(1, len(request) + 1))
        assert request[Event.SONG].is_unique
        assert len(request) <= SLATE
    assert given.groupby(Event.USER)[Event.VARIANT].nunique().max() == 1
    assert given[Event.PROPENSITY].between(0, 1, inclusive="neither").all()


def test_likes_of_recommended_songs_carry_the_request(written: Written) -> None:
    acted = written.events[written.events[Event.ACTION] == Action.LIKE]
    given = acted[acted[Event.SURFACE] == "recommended"]
    assert len(given) > 0
    assert given[Event.REQUEST].notna().all()


def test_deeper_positions_are_skipped_more(written: Written) -> None:
    heard = written.events[written.events[Event.ACTION].isin(Action.LISTENINGS)]
    skipped = (heard[Event.ACTION] == Action.SKIP).groupby(heard[Event.POSITION]).mean()
    assert skipped.loc[6:].mean() > skipped.loc[:2].mean()
    assert set(written.songs[Song.ID]) >= set(heard[Event.SONG])
    assert set(written.users[User.ID]) >= set(heard[Event.USER])
