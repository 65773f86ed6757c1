"""Wishes bend the answers of a whole bundle, each in its own direction."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from features.columns import Action, Song, SongRow, User, UserRow
from features.names import names
from features.query import MODES, Query, SessionEvent, Wishes
from serving.candidates import CONTEXT, ENOUGH, FURTHER, REPEATS, most_popular_first
from serving.exploration import Explore
from serving.fallback import most_popular, without
from serving.files import LINKS
from serving.radio import radio_seeds, spread_order
from serving.recommender import Recommender
from serving.spacing import album_codes
from serving.stages import Stages
from serving.steering import ANCHORS
from tests.serving.conftest import AS_OF, CLUSTERS, SONGS, song_id, songs_frame, with_numbers

KNOWN = [3, 13, 23, 33, 43]
USER = {
    UserRow.HISTORY_SONGS: [song_id(i) for i in KNOWN],
    UserRow.HISTORY_LAST_TS: [int(AS_OF.timestamp()) - 86_400] * len(KNOWN),
    UserRow.HISTORY_LISTEN: [1.0] * len(KNOWN),
}


@pytest.fixture(scope="module")
def recommender(bundle):
    return Recommender.load(bundle)


def query(*songs, wishes=None, **changes):
    events = tuple(SessionEvent(song_id(i)) for i in songs)
    asked = Query(ts=AS_OF, session=events, wishes=Wishes(**(wishes or {})))
    return replace(asked, **changes)


def places(slate):
    return [int(song.song_id[-3:]) for song in slate.songs]


def ask(recommender, *songs, k=10, **changes):
    return places(recommender.recommend(query(*songs, **changes), k))


def test_without_a_wish_the_ranker_alone_decides(recommender):
    for asked in (query(), query(3, 13), query(3, user=USER, context={"occasion": "party"})):
        prepared = recommender.prepare(asked)
        scores = recommender.ranker.scores(prepared.features)
        assert recommender.steerer.moved(prepared.state, prepared.pool.songs, scores) is scores
        order = prepared.pool.songs[np.argsort(-scores, kind="stable")][:10]
        assert places(recommender.recommend(asked, 10)) == order.tolist()
        api = replace(asked, wishes=Wishes(fill=True))
        assert recommender.recommend(api, 10).songs == recommender.recommend(asked, 10).songs


def mean(recommender, mode, of):
    found = [
        of(ask(recommender, *session, user=USER, wishes={"mode": mode}))
        for session in ((), (4, 14), (7,))
    ]
    return float(np.mean(found))


def test_each_mode_does_what_it_says(recommender):
    percentile = recommender.retrieval.songs.numbers[SongRow.POPULARITY_PERCENTILE]
    known = {m: mean(recommender, m, lambda found: np.isin(found, KNOWN).mean()) for m in MODES}
    popular = {m: mean(recommender, m, lambda found: percentile[found].mean()) for m in MODES}
    assert known["discover"] < known["balanced"] < known["familiar"]
    assert popular["deep_cuts"] < popular["balanced"] < popular["popular"]


def test_a_modes_weights_are_added_in_standard_deviations(recommender):
    asked = query(4, user=USER, wishes={"mode": "deep_cuts"})
    prepared = recommender.prepare(asked)
    songs = prepared.pool.songs
    scores = recommender.ranker.scores(prepared.features)
    weights = recommender.modes.deep_cuts
    artist = songs % CLUSTERS
    heard = np.isin(songs, [*KNOWN, 4])
    # Songs 49, 99, ... have no artist.
    of_theirs = np.isin(artist, [3, 4]) & (songs % 50 != 49) & ~heard
    plays = recommender.retrieval.songs.numbers[SongRow.POPULARITY][songs]
    below = np.array([(plays < p).sum() + ((plays == p).sum() + 1) / 2 for p in plays])
    popularity = below / len(songs)
    steps = weights.known * heard + weights.known_artist * of_theirs
    expected = scores + (steps + weights.popularity * popularity) * scores.std()
    moved = recommender.steerer.moved(prepared.state, songs, scores)
    np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-6)


def lifted(recommender, context, matches):
    """Tell whether matching songs stand higher where the context is heeded, among the same."""
    plain = ask(recommender, 4, k=SONGS, context=context)
    heeded = ask(recommender, 4, k=SONGS, context=context, wishes={"heed_context": True})
    heeded = [song for song in heeded if song in set(plain)]
    before, after = (
        np.mean([place for place, song in enumerate(order) if matches(song)])
        for order in (plain, heeded)
    )
    return after < before


def test_a_context_brings_up_what_matches_even_if_nobody_proposes_it(recommender):
    context = {"occasion": "diwali"}
    # Songs 9, 18, ... but those of a multiple of eight, which are for parties.
    tagged = [i for i in range(SONGS) if i % 9 == 0 and i % 8]
    assert lifted(recommender, context, tagged.__contains__)
    pool = recommender.prepare(query(3, context=context, wishes={"heed_context": True})).pool.songs
    assert set(tagged) <= set(pool.tolist())
    slate = recommender.recommend(
        query(3, context=context, wishes={"heed_context": True}), SONGS, explain=True
    )
    assert any(song.sources == (CONTEXT,) for song in slate.songs)
    assert all(song.sources for song in slate.songs)


def test_a_context_and_refused_languages_leave_what_matches_both(recommender):
    few = recommender.steering.model_copy(update={"context_candidates": 4})
    candidates = replace(recommender.candidates, params=few)
    wishes = {"heed_context": True, "refused_languages": frozenset({"en"})}
    asked = query(3, context={"occasion": "party"}, wishes=wishes)
    found = candidates.pool(candidates.state(asked)).added[CONTEXT].tolist()
    # Every eighth song is for parties; every third is English.
    assert len(found) == 4
    assert all(i % 8 == 0 and i % 3 for i in found)


def test_songs_that_nobody_proposed_are_counted_for_what_added_them(recommender):
    asked = query(3, context={"occasion": "diwali"}, wishes={"heed_context": True})
    with Stages() as stages:
        slate = recommender.recommend(asked, SONGS, explain=True)
    assert stages.facts["sources"][CONTEXT] > 0
    assert stages.facts["sources"] == Counter(song.sources[0] for song in slate.songs)


@pytest.mark.parametrize(
    ("context", "matches"),
    [
        ({"era": "1990"}, lambda i: 1990 <= 1970 + i % 50 < 2000),
        ({"language": "hi"}, lambda i: i % 3 == 1),
        ({"region": "South Asia"}, lambda i: i % 2 == 1),
        ({"mood": "calm"}, lambda i: i % 6 == 0),
        ({"mood": "calm", "language": "en"}, lambda i: i % 6 == 0),
    ],
)
def test_every_kind_of_context_can_be_asked_for(recommender, context, matches):
    assert lifted(recommender, context, matches)


def test_known_songs_far_ahead_of_all_others_are_passed_by_discovery_all_the_same(recommender):
    steerer = recommender.steerer
    state = recommender.candidates.state(query(3, user=USER, wishes={"mode": "discover"}))
    songs = np.arange(SONGS, dtype=np.int32)
    known = np.isin(songs, np.concatenate([state.history, state.played]))
    scores = np.where(known, 100.0, 0.0) + np.random.default_rng(1).normal(size=SONGS)
    first = np.argsort(-steerer.moved(state, songs, scores))[:10]
    assert known[np.argsort(-scores)[: known.sum()]].all()
    assert not known[first].any()
    # Where familiar songs lie ahead already, their step is the weight alone.
    plain = recommender.candidates.state(query(3, user=USER, wishes={"mode": "familiar"}))
    raised = steerer.moved(plain, songs, scores) - scores
    assert np.ptp(raised[known]) < 1e-9


def test_words_that_the_catalogue_does_not_know_change_nothing(recommender):
    context = {"occasion": "wedding", "era": "1230"}
    assert ask(recommender, 3, context=context, wishes={"heed_context": True}) == ask(
        recommender, 3, context=context
    )


@pytest.mark.parametrize("wishes", [{"seed_songs": (song_id(6),)}, {"seed_artist": "Artist 6"}])
@pytest.mark.parametrize("user", [{}, USER])
def test_a_radio_goes_on_from_its_seed(recommender, wishes, user):
    found = ask(recommender, wishes=wishes, user=user)
    assert [i % CLUSTERS for i in found] == [6] * 10


def test_a_radios_songs_are_continued_from_but_not_played(recommender):
    seeds = (song_id(6), song_id(16))
    state = recommender.candidates.state(query(4, wishes={"seed_songs": seeds}))
    assert state.session.tolist() == [6, 16, 4]
    assert state.played.tolist() == [4]
    assert state.acted.tolist() == [4]
    assert state.observed("listen")[0].tolist() == [4]
    # The latest play and the radio take turns.
    assert state.seeds(10).tolist() == [4, 6, 16]
    assert state.seeds(2).tolist() == [4, 6]
    played = recommender.candidates.state(query(4, 5, 6, 5, wishes={"seed_songs": seeds}))
    assert played.seeds(10).tolist() == [5, 6, 16, 4]
    apart = recommender.candidates.state(query(4, 5, wishes={"seed_songs": seeds}))
    assert apart.seeds(10).tolist() == [5, 6, 4, 16]


def test_a_radios_named_songs_are_not_proposed_but_its_artists_are(recommender):
    found = ask(recommender, k=SONGS, wishes={"seed_songs": (song_id(6),)})
    assert 6 not in found
    again = ask(recommender, k=SONGS, wishes={"seed_songs": (song_id(6),)}, allow_repeats=True)
    assert 6 in again
    assert {6, 16, 26, 36, 46} <= set(ask(recommender, k=SONGS, wishes={"seed_artist": "Artist 6"}))


def test_an_artists_radio_begins_with_the_same_songs_where_nobody_proposes_artists(recommender):
    wishes, retrieval = Wishes(seed_artist="Artist 6"), recommender.retrieval
    seeds = radio_seeds(retrieval, wishes)
    assert seeds.tolist() == [6, 16, 26, 36, 46]
    others = {name: one for name, one in retrieval.generators.items() if name != "artists"}
    found = radio_seeds(replace(retrieval, generators=others), wishes)
    assert found.tolist() == seeds.tolist()


@pytest.mark.parametrize("count", [1, 2, 3, 8, 20, 99, 100])
def test_the_first_seeds_lie_over_the_whole_list(count):
    order = spread_order(count)
    assert sorted(order.tolist()) == list(range(count))
    for few in (2, 5, 10, 20):
        gaps = np.diff([-1, *sorted(order[:few]), count])
        assert gaps.max() <= max(1, 2 * np.ceil(count / min(few, count)) + 1)


def test_a_long_playlists_radio_heeds_all_of_it(recommender):
    wishes = {"seed_songs": tuple(song_id(i) for i in range(100))}
    state = recommender.candidates.state(query(wishes=wishes))
    # So many seeds generators take, and nearness.
    for few in (3, 5, 10, ANCHORS):
        places = np.sort(state.seeds(few))
        assert np.diff([0, *places, 99]).max() <= 2 * 100 / few


def test_a_radio_from_a_song_that_nobody_played_stays_in_its_genre(recommender):
    last = SONGS - 1  # Odd songs are pop; of this one neither artist nor factors are known.
    unheard = with_numbers(recommender, last, {SongRow.POPULARITY: 0.0})
    assert unheard.candidates.same_genre.beside(np.array([last, 6])).tolist() == list(
        range(1, SONGS, 2)
    )
    assert len(recommender.candidates.same_genre.beside(np.array([last, 6]))) == 0
    # Nor what sessions would say of it.
    linked = {*LINKS, "sessions", "continuations", "vectors"}
    unlinked = without(unheard.retrieval, tuple(linked))
    found = ask(replace(unheard, retrieval=unlinked), wishes={"seed_songs": (song_id(last),)})
    assert {i % 2 for i in found} == {1}
    barred = {"seed_songs": (song_id(last),), "refused_languages": frozenset({"en"})}
    state = unheard.candidates.state(query(wishes=barred))
    added = unheard.candidates.pool(state).added[FURTHER]
    assert all(i % 2 for i in added[:50])
    assert all(i % 3 for i in added)


def test_a_radio_keeps_its_course_while_it_plays(recommender):
    found = ask(recommender, 6, 16, 26, 36, wishes={"seed_songs": (song_id(5),)}, k=20)
    assert {i % CLUSTERS for i in found} >= {5, 6}


def test_a_radio_is_heard_though_own_songs_lie_far_ahead_of_all_others(recommender):
    steerer = recommender.steerer
    state = recommender.candidates.state(query(user=USER, wishes={"seed_artist": "Artist 6"}))
    songs = np.arange(SONGS, dtype=np.int32)
    own = np.isin(songs, state.history)
    scores = np.where(own, 100.0, 0.0) + np.random.default_rng(1).normal(size=SONGS)
    first = np.argsort(-steerer.moved(state, songs, scores))[:10]
    assert (first % CLUSTERS == 6).mean() >= 0.9


def test_the_popular_are_among_the_candidates_where_they_are_asked_for(recommender):
    few = frozenset(song_id(i) for i in range(3))
    for user in ({}, USER):
        pool = recommender.prepare(query(user=user, wishes={"mode": "popular"}, exclude=few)).pool
        assert set(range(3, ENOUGH)) <= set(pool.songs.tolist())
        assert not {0, 1, 2} & set(pool.songs.tolist())


def test_an_unknown_seed_is_said_and_answered_without(recommender):
    wishes = {"seed_songs": ("?",), "seed_artist": "Nobody"}
    slate = recommender.recommend(query(3, wishes=wishes), 5)
    assert slate.notes == (
        "seed: the catalogue has no song '?'.",
        "seed: the catalogue has no artist 'Nobody'.",
    )
    assert places(slate) == ask(recommender, 3, k=5)


def test_less_like_this_pushes_down_the_like(recommender):
    plain = ask(recommender, 3, 13, k=20)
    unwanted = plain[0]
    found = ask(recommender, 3, 13, k=20, wishes={"less_like": (song_id(unwanted),)})
    assert unwanted not in found
    alike = [i for i in plain if i % CLUSTERS == unwanted % CLUSTERS and i != unwanted]
    assert alike
    assert sum(i % CLUSTERS == unwanted % CLUSTERS for i in found) < len(alike)


def test_the_latest_of_many_unwanted_songs_counts(recommender):
    earlier = tuple(song_id(i) for i in range(100, 200) if i % CLUSTERS == 5)
    earlier += tuple(song_id(i) for i in range(1, 200) if i % CLUSTERS == 1)

    def of_cluster(cluster, *latest):
        wishes = {"less_like": (*earlier, *latest)}
        found = ask(recommender, 3, k=50, wishes=wishes)
        return [i for i in found if i % CLUSTERS == cluster and i != 193]

    assert len(earlier) > ANCHORS
    near = song_id(193)
    assert len(of_cluster(3, near)) < len(of_cluster(3))


def test_less_like_an_unknown_song_changes_nothing(recommender):
    assert ask(recommender, 3, wishes={"less_like": ("?",)}) == ask(recommender, 3)


def test_each_word_and_id_that_is_not_known_is_noted(recommender):
    wishes = {
        "heed_context": True,
        "refused_languages": frozenset({"English", "hi"}),
        "less_like": (song_id(3), "?"),
        "seed_songs": ("!", song_id(4)),
    }
    context = {"occasion": "Party", "mood": "calm", "era": "1230", "device": "toaster"}
    asked = query(context=context, wishes=wishes)
    lists = "GET /status lists the words that songs and listeners are of."
    notes = (
        "seed: the catalogue has no song '!'.",
        "less_like: the catalogue has no song '?'.",
        f"context.occasion: no song is of 'Party'; {lists}",
        f"context.era: no song is of '1230'; {lists}",
        f"profile.refused_languages: no song is of 'English'; {lists}",
    )
    assert recommender.recommend(asked, 5).notes == notes
    popular = recommender.candidates.popular
    left = most_popular(recommender.retrieval.songs, popular, asked, 5).notes
    assert left == (*notes, "seed, less_like, context: not heeded in a degraded answer.")
    # A context that is not asked for, as in batch, is no wish.
    assert recommender.recommend(query(context=context), 5).notes == ()


@pytest.mark.parametrize("temperature", [0.0, 0.001, 5.0])
def test_spacing_keeps_artists_apart(recommender, temperature):
    rules = recommender.steering.artist
    asked = query(3, 13, wishes={"spacing": True})
    slate = recommender.answer(recommender.prepare(asked, 10), 10, explore=Explore(temperature, 1))
    assert slate.notes == ()
    found = places(slate)
    artists = [3, 3, *(i % CLUSTERS for i in found)]
    for end in range(2, len(artists)):
        part = artists[max(0, end - rules.window + 1) : end + 1]
        assert part.count(artists[end]) <= rules.limit
    assert len(set(artists)) > 1


def test_songs_of_one_title_by_two_artists_are_two(recommender):
    frame = songs_frame()
    frame.loc[[24, 25], Song.TITLE] = "Hello"
    songs = replace(recommender.retrieval.songs, names=names(frame))
    named_anew = replace(recommender, retrieval=replace(recommender.retrieval, songs=songs))
    candidates, asked = np.array([24, 25], np.int32), query(wishes={"spacing": True})
    state, scores = named_anew.candidates.state(asked), np.array([1.0, 0.5])
    chosen = named_anew.spacing.chosen(state, candidates, scores, 2, Explore(0.0, 1))
    assert chosen.places.tolist() == [0, 1]
    assert chosen.relaxed == ()


def test_a_radios_seeds_take_nobodys_place(recommender):
    """They were not played: an answer may begin with songs of their artist."""
    seeds = tuple(song_id(i) for i in (3, 13, 23))
    asked = query(6, wishes={"seed_songs": seeds, "spacing": True})
    state, candidates = recommender.candidates.state(asked), np.array([33, 43, 8], np.int32)
    scores = np.array([3.0, 2.0, 1.0])
    chosen = recommender.spacing.chosen(state, candidates, scores, 3, Explore(0.0, 1))
    assert chosen.places.tolist() == [0, 1, 2]


@pytest.mark.parametrize("temperature", [0.0, 0.001])
def test_a_recording_under_several_ids_comes_once(recommender, temperature):
    def found(one, **wishes):
        prepared = one.prepare(query(23, wishes=wishes), 10)
        return places(one.answer(prepared, 10, explore=Explore(temperature, 1)))

    heard_before, once, again = [i for i in found(recommender) if i % CLUSTERS == 3][:3]
    frame = songs_frame()
    frame.loc[[23, heard_before], Song.TITLE] = ["As heard", "as heard"]
    frame.loc[[once, again], Song.TITLE] = ["Twice", "TWICE"]
    songs = replace(recommender.retrieval.songs, names=names(frame))
    named_anew = replace(recommender, retrieval=replace(recommender.retrieval, songs=songs))
    spaced = set(found(named_anew, spacing=True))
    assert heard_before not in spaced
    assert len(spaced & {once, again}) == 1
    assert {heard_before, once, again} <= set(found(named_anew))


def test_an_artists_radio_may_stay_with_the_artist(recommender):
    wishes = {"seed_artist": "Artist 6", "spacing": True}
    assert {i % CLUSTERS for i in ask(recommender, wishes=wishes)} == {6}


def test_refused_languages_never_come_and_others_take_their_place(recommender):
    refused = frozenset({"en", "hi"})
    found = ask(recommender, 3, 13, wishes={"refused_languages": refused}, k=50)
    assert {i % 3 for i in found} == {2}
    assert len(found) == 50
    slate = recommender.recommend(
        query(3, 13, wishes={"refused_languages": refused}), 50, explain=True
    )
    assert any(song.sources == (FURTHER,) for song in slate.songs)


def test_an_answer_that_nothing_can_fill_says_so(recommender):
    slate = recommender.recommend(
        query(3, wishes={"refused_languages": frozenset({"en", "hi", "de"})}), 5
    )
    assert slate.songs == ()
    assert slate.notes == ("short: only 0 of 5 songs may be proposed.",)


def test_excluded_songs_stay_away_whatever_is_wished(recommender):
    everything = frozenset(song_id(i) for i in range(SONGS)) - {song_id(8), song_id(9)}
    wishes = {"fill": True, "heed_context": True, "spacing": True}
    slate = recommender.recommend(
        query(3, exclude=everything, context={"occasion": "party"}, wishes=wishes), 5
    )
    assert set(places(slate)) <= {8, 9}
    assert slate.notes[0].startswith("short: only 2 of 5")


def listing(recommender, listed):
    """Return the recommender with only so many trending songs listed."""
    trending = recommender.retrieval.generators["trending"]
    short = replace(trending, listed=trending.listed[:, :listed])
    generators = {**recommender.retrieval.generators, "trending": short}
    return replace(recommender, retrieval=replace(recommender.retrieval, generators=generators))


def test_a_stranger_who_excludes_all_that_is_listed_gets_what_is_popular_next(recommender):
    asked = query(exclude=frozenset(song_id(i) for i in range(20)))
    short = listing(recommender, 20)
    slate = short.recommend(asked, 10, explain=True)
    assert [song.sources for song in slate.songs] == [(FURTHER,)] * 10
    # Song 0 is the most popular one, and so on.
    assert sorted(short.prepare(asked, 10).pool.songs.tolist()) == list(range(20, 120))


@pytest.mark.parametrize("popular", [0, 10, SONGS])
def test_what_nobody_lists_is_found_in_the_whole_catalogue(recommender, popular):
    candidates = listing(recommender, 20).candidates
    few = replace(candidates, popular=candidates.popular[:popular])
    refused = frozenset({"en", "hi"})
    state = few.state(query(exclude={song_id(2)}, wishes={"refused_languages": refused}))
    found = few.pool(state, 10).pool.songs
    assert found.tolist() == list(range(5, SONGS, 3))


def test_popularity_puts_songs_nobody_plays_last():
    songs = SimpleNamespace(numbers={SongRow.POPULARITY: np.array([1.0, 7.0, np.nan])})
    assert most_popular_first(songs, 3).tolist() == [1, 0, 2]
    assert most_popular_first(songs, 2, np.array([2, 0])).tolist() == [0, 2]


def test_songs_of_the_session_come_again_before_an_answer_falls_short(recommender):
    left = [3, 13, 23, 33]
    everything = frozenset(song_id(i) for i in range(SONGS) if i not in left)
    events = (SessionEvent(song_id(3)), SessionEvent(song_id(13), Action.SKIP, 900))
    asked = query(session=events, exclude=everything)
    assert sorted(places(recommender.recommend(asked, 4))) == [23, 33]
    filled = recommender.recommend(replace(asked, wishes=Wishes(fill=True)), 4)
    # What was skipped does not come again.
    assert sorted(places(filled)) == [3, 23, 33]
    assert filled.relaxed == (REPEATS,)
    enough = recommender.recommend(replace(asked, wishes=Wishes(fill=True)), 2)
    assert sorted(places(enough)) == [23, 33]
    assert enough.relaxed == ()


def test_wishes_go_through_blocks_as_through_single_answers(recommender):
    wishes = (Wishes(mode="discover"), Wishes(spacing=True), Wishes(seed_artist="Artist 2"))
    queries = [replace(query(i), wishes=one) for i in range(4) for one in wishes]
    assert recommender.recommend_many(queries, 10) == [
        recommender.recommend(one, 10) for one in queries
    ]


def test_albums_of_two_artists_with_one_name_are_two_albums(recommender):
    album = album_codes(recommender.retrieval.songs, np.array([0, 40, 80, 1], np.int32))
    codes = recommender.retrieval.songs.codes
    # Songs 0, 40 and 80 share an album's name and an artist.
    assert codes[Song.ALBUM].codes[0] == codes[Song.ALBUM].codes[40]
    assert album[0] == album[1] == album[2] != album[3]


def test_a_listeners_region_bars_nothing_where_no_song_names_one(recommender):
    here = ask(recommender, 3, user={User.REGION: "Europe"})
    assert len(here) == 10
