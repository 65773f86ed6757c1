"""ALS and BPR on two groups of songs that never meet."""

import numpy as np
import pytest

from benchmarks.peers.factors import Als, Bpr
from tests.benchmarks.peers_world import listed, plays, query


def two_groups():
    """Return sessions that hold songs 0 to 9 or songs 10 to 19, never both."""
    random = np.random.default_rng(4)
    return [(10 * (code % 2) + random.choice(10, 5, replace=False)).tolist() for code in range(200)]


@pytest.mark.parametrize("unit", ["sessions", "listeners"])
@pytest.mark.parametrize("kind", [Als, Bpr])
def test_the_answer_stays_in_the_group_of_the_session(kind, unit):
    users = [code % 20 for code in range(200)]
    # With as many factors as groups, ALS can learn nothing but the groups.
    settings = {"learning_rate": 0.1, "factors": 8} if kind is Bpr else {"factors": 2}
    peer = kind(fill=0, unit=unit, **settings).fit(plays(two_groups(), 20, users))
    for start in (0, 10):
        found = listed(peer.tops([query([start + 1, start + 2])]))[:4]
        assert all(start <= song < start + 10 for song in found)


def test_cosine_leaves_length_and_popularity_out():
    peer = Bpr(fill=0, factors=8, cosine=True).fit(plays(two_groups(), 20))
    np.testing.assert_allclose(np.linalg.norm(peer.songs_, axis=1), 1, rtol=1e-5)
    assert peer.songs_.shape == (20, 8)


def test_als_folds_in_as_it_was_fitted():
    """A session of the fit, asked for again, gets nearly the factors that it was fitted with."""
    past = plays(two_groups(), 20)
    peer = Als(fill=0, decay=1.0, factors=6, iterations=30).fit(past)
    folded = peer.folded_in(past.matrix("sessions")[:5])
    np.testing.assert_allclose(folded, np.asarray(peer.model_.user_factors)[:5], atol=0.05)
