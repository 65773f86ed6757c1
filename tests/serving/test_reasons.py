"""Reasons are true, come from the model, and what they name really moves a score."""

from dataclasses import replace
from datetime import timedelta

import lightgbm
import numpy as np
import pytest

from features.columns import Action, Song, SongRow, User, UserRow
from features.params import Generators, load_params
from features.query import Query, SessionEvent, Wishes
from features.state import resolve
from serving.candidates import CONTEXT, FURTHER, REPEATS
from serving.context_songs import CODES
from serving.evidence import FEATURES, GENERATORS, KINDS, columns, evidence
from serving.files import LINKS
from serving.radio import tuned
from serving.ranker import Ranker, Trees
from serving.reasons import MOST, PROPOSED, SAID, links, proposed, sentence, tastes
from serving.recommender import Recommender
from serving.retrieval import BLEND
from serving.sentences import SENTENCES
from tests.serving.conftest import AS_OF, SONGS, UNTITLED, song_id, with_numbers

LIKED, HEARD = 43, 5
USER = {
    User.REGION: "Europe",
    UserRow.HISTORY_SONGS: [song_id(LIKED), song_id(HEARD)],
    UserRow.HISTORY_LAST_TS: [int((AS_OF - timedelta(days=1)).timestamp())] * 2,
    UserRow.HISTORY_LISTEN: [2.0, 1.0],
    UserRow.HISTORY_LIKE: [1.0, 0.0],
}


@pytest.fixture(scope="module")
def recommender(bundle):
    return Recommender.load(bundle)


@pytest.fixture(scope="module")
def attentive(recommender):
    """Return the recommender with a ranker that goes by what was heard: by links and factors."""
    names = recommender.retrieval.feature_names
    prepared = [recommender.prepare(query(i, i + 10, user=USER)) for i in range(20)]
    rows = np.concatenate([one.features for one in prepared])
    wanted = np.zeros(len(rows))
    for name in ("transitions_score", "together_score", "listeners_score", "blend_score"):
        column = np.nan_to_num(rows[:, names.index(name)])
        wanted += column / (column.std() or 1.0)
    kept = [any(n.startswith(g) for g in (*LINKS, BLEND)) for n in names]
    rows = np.where(kept, rows, np.nan)
    booster = lightgbm.train(
        {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5},
        lightgbm.Dataset(rows, wanted, feature_name=list(names)),
        40,
    )
    return replace(recommender, ranker=Ranker(Trees(booster), {}))


def query(*session, wishes=None, **changes):
    events = tuple(SessionEvent(song_id(i)) for i in session)
    return replace(Query(ts=AS_OF, session=events, wishes=Wishes(**(wishes or {}))), **changes)


def say(recommender, song, kind, *session, **changes):
    """Return what one kind of evidence says of one song."""
    state = resolve(query(*session, **changes), recommender.retrieval.songs)
    return SENTENCES[kind](recommender.retrieval, state, song)


def test_own_songs_say_what_the_listener_did_with_them(recommender):
    assert say(recommender, LIKED, "own", user=USER) == "You liked it"
    assert say(recommender, HEARD, "own", user=USER) == "You have played it before"
    assert say(recommender, 7, "own", 7) == "You have played it before"
    assert say(recommender, 6, "own", user=USER) is None


def test_what_was_only_added_or_skipped_was_not_played(recommender):
    user = USER | {UserRow.HISTORY_LISTEN: [2.0, 0.0]}
    assert say(recommender, HEARD, "own", user=user) is None
    assert say(recommender, HEARD, "own", HEARD, user=user) == "You have played it before"
    for song, said in ((LIKED, "By Artist 3, whom you play"), (HEARD, None)):
        assert say(recommender, song, "artist", user=user) == said


@pytest.mark.parametrize(
    ("song", "word", "text"), [(8, "party", "For party"), (9, "diwali", "For Diwali")]
)
def test_an_occasion_is_named_where_it_is_asked_for_and_the_song_is_for_it(
    recommender, song, word, text
):
    assert say(recommender, song, "occasion", context={"occasion": word}) == text
    for context in ({}, {"occasion": None}, {"occasion": "wedding"}):
        assert say(recommender, song, "occasion", context=context) is None
    assert say(recommender, 7, "occasion", context={"occasion": word}) is None
    assert say(recommender, 6, "mood", context={"mood": "calm"}) == "For a calm mood"


@pytest.mark.parametrize("age", [12, 13, 16, 19, 20])
def test_a_song_of_the_listeners_teens_says_how_old_they_were(recommender, age):
    # Songs 20 and 120 are of 1990; the first is the more popular.
    big = say(recommender, 20, "teens", user={User.BIRTH_YEAR: 1990 - age})
    small = say(recommender, 120, "teens", user={User.BIRTH_YEAR: 1990 - age})
    teens = 13 <= age <= 19
    assert big == (f"Big when you were {age}" if teens else None)
    assert small == (f"From when you were {age}" if teens else None)


@pytest.mark.parametrize("born", [None, np.nan])
def test_nothing_is_said_of_an_age_that_is_not_known(recommender, born):
    for song in range(SONGS):
        assert say(recommender, song, "teens", user={User.BIRTH_YEAR: born}) is None


def test_artist_album_genre_and_sound_of_the_session(recommender):
    assert say(recommender, 16, "artist", 3, 6) == "More by Artist 6"
    assert say(recommender, 46, "album", 6) == "From an album of this session"
    assert say(recommender, 8, "genre", 6) == "More rock, as in this session"
    assert say(recommender, 7, "genre", 6) is None
    # Of like tempo, energy and valence; song 7 is of the least energy, 6 of the most.
    assert say(recommender, 12, "sound", 6) == "Sounds like this session"
    assert say(recommender, 7, "sound", 6) is None
    assert say(recommender, 12, "sound") is None
    assert say(recommender, 7, "sessions", 6) == "Played in sessions like this one"


def test_what_the_listener_usually_plays(recommender):
    user = {
        User.LANGUAGES: ["hi"],
        User.FAVOURITE_ARTISTS: ["Artist 2"],
        UserRow.ARTIST_KEYS: ["Artist 6"],
        UserRow.ARTIST_SHARES: [0.5],
        UserRow.GENRE_KEYS: ["rock", "pop"],
        UserRow.GENRE_SHARES: [0.95, 0.05],
        UserRow.ERA_KEYS: ["1990"],
        UserRow.ERA_SHARES: [0.4],
    }
    assert say(recommender, 16, "artist", user=user) == "By Artist 6, whom you play"
    assert say(recommender, 12, "artist", user=user) == "By Artist 2, whom you named"
    assert say(recommender, 12, "artist") is None
    assert say(recommender, 1, "language", user=user) == "In a language that you listen to"
    assert say(recommender, 2, "language", user=user) is None
    assert say(recommender, 4, "genre", user=user) == "You often play rock"
    assert say(recommender, 5, "genre", user=user) is None
    assert say(recommender, 25, "era", user=user) == "From the 1990s, which you often play"
    assert say(recommender, 25, "era", context={"era": "1990"}) == "From the 1990s"
    assert say(recommender, 15, "era", user=user) is None


def test_what_the_crowd_does(recommender):
    assert say(recommender, 3, "trend") == "Much played now"
    assert say(recommender, 2, "trend", user=USER) == "Much played now in Europe"
    # Song 3 is heard in South Asia only, and nobody lives in Atlantis.
    assert say(recommender, 3, "trend", user=USER) == "Much played now"
    assert say(recommender, 2, "trend", user={User.REGION: "Atlantis"}) == "Much played now"
    assert say(recommender, 150, "trend") in (None, "More played than before")
    assert say(recommender, 3, "popular") == "Popular with everyone"
    assert say(recommender, 150, "popular") is None
    assert say(crowded(recommender, 3, listeners=9), 3, "popular") is None
    assert say(crowded(recommender, 3, listeners=10), 3, "popular") == "Popular with everyone"
    assert say(recommender, 2, "region", user=USER) == "Heard in Europe"
    assert say(recommender, 3, "region", user=USER) is None
    assert say(recommender, 3, "new") is None
    assert say(aged(recommender, 3, days=5, year=2023), 3, "new") == "New"
    # First heard lately, but of old.
    assert say(aged(recommender, 3, days=5, year=2016), 3, "new") is None
    assert say(aged(recommender, 3, days=5, year=np.nan), 3, "new") == "New"


def crowded(recommender, song, listeners):
    return with_numbers(recommender, song, {SongRow.LISTENERS: listeners})


def aged(recommender, song, days, year):
    return with_numbers(recommender, song, {SongRow.AGE_DAYS: days, Song.RELEASE_YEAR: year})


def test_what_was_skipped_or_disliked_is_no_reason(recommender, attentive):
    for action in ("skip", "dislike"):
        events = (SessionEvent(song_id(3)), SessionEvent(song_id(6)))
        refused = SessionEvent(song_id(6), action)
        session = (events[0], refused) if action == "skip" else (*events, refused)
        assert say(recommender, 16, "artist", session=session) is None
        assert say(recommender, 46, "album", session=session) is None
        assert say(recommender, 8, "genre", session=session) is None
        asked = replace(query(), session=session)
        slate = attentive.recommend(asked, 30, explain=True)
        told = {one.song_id for song in slate.songs for one in song.reasons}
        assert song_id(6) not in told
        assert told & {song_id(3)}


def test_nothing_is_like_a_strangers_session_of_skips(recommender):
    asked = query(session=(SessionEvent(song_id(6), Action.SKIP),))
    slate = recommender.recommend(asked, 30, explain=True)
    texts = [reason.text for song in slate.songs for reason in song.reasons]
    assert texts
    assert not [text for text in texts if "this session" in text or "like this one" in text]


def test_every_feature_is_of_one_kind_at_most(recommender):
    places = columns(recommender.retrieval.feature_names)
    listed = [place for kind in KINDS for place in places[kind]]
    assert len(listed) == len(set(listed))
    named = {name for names in FEATURES.values() for name in names}
    off = {name for name in LINKS if name not in recommender.retrieval.names}
    assert named <= set(recommender.retrieval.feature_names)
    assert {name for names in GENERATORS.values() for name in names} - off <= set(
        recommender.retrieval.names
    )


def test_evidence_is_what_the_score_loses_without_it(recommender):
    prepared = recommender.prepare(query(3, 13, user=USER))
    rows, names = prepared.features[:7], recommender.retrieval.feature_names
    found = evidence(recommender.ranker, names, rows)
    for kind, falls in found.items():
        without = rows.copy()
        without[:, columns(names)[kind]] = np.nan
        expected = recommender.ranker.scores(rows) - recommender.ranker.scores(without)
        np.testing.assert_allclose(falls, expected, rtol=1e-6)
    assert any(np.abs(falls).max() > 0 for falls in found.values())


HEARD_AND_SKIPPED = (SessionEvent(song_id(HEARD)), SessionEvent(song_id(15), Action.SKIP))
QUERIES = [
    query(3, 13, 24),
    query(7, 7, 17, user=USER),
    query(7, user=USER),
    query(*[5] * 50, user=USER),
    query(*[7] * 50, 17),
    query(user=USER),
    query(user=USER | {User.BIRTH_YEAR: 1980, User.REGION: None}),
    query(session=(SessionEvent(song_id(3)), SessionEvent(song_id(5), Action.LIKE))),
    # Without the only song that was heard out, the history is continued from.
    query(session=HEARD_AND_SKIPPED),
    query(session=HEARD_AND_SKIPPED, user=USER),
    query(session=HEARD_AND_SKIPPED[1:], user=USER),
]


@pytest.mark.parametrize("asked", QUERIES)
def test_what_a_reason_names_moves_the_score_by_what_it_says(attentive, asked):
    """Take the named song, or the named evidence, away and compute everything anew."""
    retrieval = attentive.retrieval
    names = retrieval.feature_names
    prepared = attentive.prepare(asked)
    named = 0
    for song in attentive.recommend(asked, 20, explain=True).songs:
        index = retrieval.songs.index_of[song.song_id]
        row = prepared.features[prepared.pool.songs == index]
        for reason in song.reasons:
            # Who proposed a song is named where no evidence raised it.
            if reason.kind in ("crowd", "source"):
                continue
            assert reason.effect > 0
            if reason.song_id is None:
                without = row.copy()
                without[:, columns(names)[reason.kind]] = np.nan
                full, rest = attentive.ranker.scores(np.concatenate([row, without]))
                assert full - rest == pytest.approx(reason.effect)
                continue
            named += 1
            assert reason.song_id != song.song_id
            place = np.array([index], np.int32)
            lost = scored(retrieval, asked, reason.of, place) - scored(
                retrieval, less(asked, reason.song_id), reason.of, place
            )
            assert lost == pytest.approx(reason.effect, rel=1e-2, abs=1e-4)
    assert named


ONE = {n: v[1:] for n, v in USER.items() if n != User.REGION}


@pytest.mark.parametrize(
    "user", [{}, ONE, USER | {UserRow.HISTORY_SONGS: [song_id(25), song_id(HEARD)]}]
)
@pytest.mark.parametrize(
    "session", [HEARD_AND_SKIPPED, HEARD_AND_SKIPPED[:1], HEARD_AND_SKIPPED[1:]]
)
def test_what_a_session_of_few_songs_says_goes_with_them(recommender, user, session):
    """The history is continued from without a song that was enjoyed, if there is one."""
    retrieval, asked = recommender.retrieval, query(session=session, user=user)
    songs = np.arange(SONGS, dtype=np.int32)
    named = 0
    for kind in LINKS:
        found = links(retrieval, resolve(asked, retrieval.songs), kind, songs)
        for song, one in zip(songs, found, strict=True):
            if one is None:
                continue
            named += 1
            place, rest = songs[song : song + 1], less(asked, song_id(one.song))
            lost = scored(retrieval, asked, kind, place) - scored(retrieval, rest, kind, place)
            assert lost == pytest.approx(one.effect, rel=1e-3, abs=1e-5)
    assert (named > 0) == (bool(user) or session[0].action == Action.PLAY)


@pytest.mark.parametrize("session", [(), (HEARD,), (3, 13, 24), (3, 16, 3, 24)])
def test_what_a_radio_with_a_session_says_goes_with_the_song(recommender, session):
    """Plays and the radio's songs take turns, anew where one is gone."""
    retrieval = recommender.retrieval
    songs, seeds = np.arange(SONGS, dtype=np.int32), np.array([6, 16, 26, 36, 46], np.int32)

    def scores(kind, without=-1):
        heard = query(*(song for song in session if song != without))
        state = tuned(resolve(heard, retrieval.songs), seeds[seeds != without])
        return np.nan_to_num(retrieval.generators[kind].scores(state).of(songs))

    named = 0
    for kind in LINKS:
        state = tuned(resolve(query(*session), retrieval.songs), seeds)
        for song, one in zip(songs, links(retrieval, state, kind, songs), strict=True):
            if one is not None:
                named += 1
                lost = (scores(kind) - scores(kind, one.song))[song]
                assert lost == pytest.approx(one.effect, rel=1e-3, abs=1e-5)
    assert named > 20


def scored(retrieval, asked, name, place):
    state = resolve(asked, retrieval.songs)
    return float(np.nan_to_num(retrieval.scores(state)[name].of(place))[0])


def less(asked, named):
    """Return the query as if the song had never been heard."""
    user = dict(asked.user)
    songs = list(user.get(UserRow.HISTORY_SONGS, []))
    if named in songs:
        place = songs.index(named)
        for key in UserRow.HISTORY:
            if user.get(key) is not None:
                user[key] = [v for i, v in enumerate(user[key]) if i != place]
    session = tuple(event for event in asked.session if event.song_id != named)
    return replace(asked, user=user, session=session)


@pytest.mark.parametrize(
    ("action", "said"),
    [(Action.LIKE, "liked"), (Action.PLAYLIST_ADD, "added"), (Action.PLAY, "played")],
)
def test_what_was_done_with_the_named_song_is_said(recommender, action, said):
    retrieval = recommender.retrieval
    state = resolve(query(session=(SessionEvent(song_id(5), action),)), retrieval.songs)
    songs = np.array([15, 25], np.int32)
    for song, behind in zip(songs, tastes(retrieval, state, songs), strict=True):
        (reason,) = sentence(retrieval, state, int(song), "taste", 1.0, behind)
        assert reason.text == f"Because you {said} Tune 5 of the Hill"
        assert (reason.song_id, reason.kind) == (song_id(5), "taste")
        assert SAID[reason.of] == said
        assert reason.effect == pytest.approx(
            scored(retrieval, state.query, reason.of, np.array([song])), rel=1e-3
        )


@pytest.mark.parametrize("loud", ["like", "listen"])
def test_the_signal_that_counts_most_names_the_song(recommender, loud):
    retrieval = recommender.retrieval
    scales = tuple(1e3 if signal == loud else 1e-3 for signal in retrieval.blend.signals)
    state = resolve(query(user=USER), retrieval.songs)
    songs = np.array([15, 25], np.int32)
    weighed = replace(retrieval, blend=replace(retrieval.blend, scales=scales))
    assert [behind.signal for behind in tastes(weighed, state, songs)] == [loud, loud]


def test_an_untitled_song_is_named_by_its_id(attentive):
    told = [
        r.text for s in attentive.recommend(query(7), 20, explain=True).songs for r in s.reasons
    ]
    assert any(f"song {UNTITLED}" in text for text in told)


def test_what_was_asked_for_comes_first(recommender):
    context = {"occasion": "diwali", "mood": "calm"}
    asked = query(3, context=context, wishes={"heed_context": True})
    slate = recommender.recommend(asked, SONGS, explain=True)
    tags = recommender.retrieval.songs.tags[Song.OCCASIONS]
    for song in slate.songs:
        index = recommender.retrieval.songs.index_of[song.song_id]
        if tags.has[index, tags.code_of["diwali"]]:
            first = song.reasons[0]
            assert (first.text, first.of) == ("For Diwali", "request")
            assert first.effect > 0
        else:
            assert "For Diwali" not in [reason.text for reason in song.reasons]


@pytest.mark.parametrize(
    ("context", "text"),
    [
        ({"era": "1990"}, "From the 1990s"),
        ({"language": "hi"}, "In the language that you asked for"),
        ({"region": "South Asia"}, "From South Asia"),
    ],
)
def test_an_asked_era_language_or_region_is_named_where_it_is_so(recommender, context, text):
    asked = query(3, context=context, wishes={"heed_context": True})
    slate = recommender.recommend(asked, SONGS, explain=True)
    (kind, word), *_ = context.items()
    codes = recommender.retrieval.songs.codes[CODES[kind]]
    for song in slate.songs:
        told = text in [reason.text for reason in song.reasons]
        assert told == (codes.codes[song.place] == codes.code_of[word])


def test_what_a_radio_started_from_was_not_heard_in_the_session(recommender):
    slate = recommender.recommend(query(wishes={"seed_songs": (song_id(6),)}), 20, explain=True)
    texts = {reason.text for song in slate.songs for reason in song.reasons}
    assert not [text for text in texts if "session" in text]


def test_what_is_played_less_of_late_is_not_much_played_now(recommender):
    songs = recommender.retrieval.songs
    song = int(np.nanargmax(songs.numbers[SongRow.POPULARITY_PERCENTILE]))
    numbers = songs.numbers_of.copy()
    numbers[song, songs.number_places[SongRow.TREND]] = -0.5
    fallen = replace(songs, arrays={**songs.arrays, "numbers": numbers})
    retrieval = replace(recommender.retrieval, songs=fallen)
    state = resolve(query(), fallen)
    assert SENTENCES["trend"](recommender.retrieval, state, song) is not None
    assert SENTENCES["trend"](retrieval, state, song) is None


@pytest.mark.parametrize("user", [{}, USER, USER | {User.BIRTH_YEAR: 1980, User.REGION: None}])
@pytest.mark.parametrize("session", [(), (3, 13), (7, 49, 99)])
def test_there_is_always_one_reason_and_never_more_than_two(recommender, user, session):
    asked = query(*session, user=user, context={"occasion": "diwali"})
    for song in recommender.recommend(asked, SONGS, explain=True).songs:
        texts = [reason.text for reason in song.reasons]
        assert 1 <= len(texts) <= MOST
        assert len(set(texts)) == len(texts)
        assert all(text and "None" not in text and "nan" not in text for text in texts)


def test_where_no_evidence_raised_a_song_who_proposed_it_is_named(recommender, monkeypatch):
    monkeypatch.setattr("serving.reasons.evidence", lambda *_: {})
    for song in recommender.recommend(query(3), 20, explain=True).songs:
        (reason,) = song.reasons
        assert (reason.of, reason.effect) == (song.sources[0], 0)
        assert reason.text == PROPOSED[song.sources[0]]


def test_every_source_of_songs_has_a_reason(recommender):
    retrieval = recommender.retrieval
    params = load_params()
    on = {*params.signals, *Generators.model_fields, BLEND, CONTEXT, FURTHER, REPEATS}
    assert on - set(PROPOSED) <= {"skip", "dayparts"}
    assert proposed(retrieval, 0, ["skip", "trending"])[0].of == "trending"
    assert proposed(retrieval, 0, ["skip"]) == ()


def test_only_what_is_popular_is_called_so(recommender):
    """What fills an answer up is the most popular of what may be played, which may be little."""
    retrieval = recommender.retrieval
    percentile = retrieval.songs.numbers[SongRow.POPULARITY_PERCENTILE]
    most, least = (int(song) for song in (np.nanargmax(percentile), np.nanargmin(percentile)))
    said = [proposed(retrieval, song, [FURTHER])[0].text for song in (most, least)]
    assert said == ["Among the most popular songs", "Among the most popular of what may be played"]


def test_a_song_that_counts_as_skipped_is_never_named_as_a_taste(recommender):
    retrieval = recommender.retrieval
    part = retrieval.generators["listen"]
    skipping = replace(part, model=replace(part.model, skip_weight=3.0))
    changed = replace(retrieval, generators={**retrieval.generators, "listen": skipping})
    events = [SessionEvent(song_id(HEARD), Action.SKIP), SessionEvent(song_id(LIKED))]
    state = resolve(Query(ts=AS_OF, session=tuple(events)), retrieval.songs)
    heard, values = skipping.observed(state)
    assert (values < 0).sum() == 1
    named = tastes(changed, state, np.arange(SONGS, dtype=np.int32))
    found = {one.song for one in named if one is not None and one.signal == "listen"}
    assert found <= set(heard[values > 0].tolist())
    assert found
