"""Whether modes, contexts and spacing do what they say, and what they cost in expected likes.

For the source `simulated` only: the simulator's truth says how likely a song would be liked.
`--cut labels` asks the queries of the label phase, for choosing the parameters; the figures that
are reported and saved are those of the test phase.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.measure import machine, save, table
from benchmarks.simulated_past import Latest
from benchmarks.simulated_truth import chances, read_until_end
from features.catalogue import Catalogue, IntArray
from features.columns import Song, SongRow
from features.mistakes import run_command
from features.params import Evaluation, load_params
from features.paths import data_dir
from features.query import MODES, Query, Wishes
from serving.bundle import load_ranker, load_retrieval
from serving.context_songs import CODES, TAGS, context_match
from serving.recommender import Recommender
from serving.scores import best
from simulation.truth import Truth
from training.dataset import phase_queries
from training.metrics import Floats, answer_ranks, cluster_bootstrap, interval, ndcg
from training.phases import Cut, read_phases
from training.queries import Labelled, Sample
from training.tables import bounds

TOP: Final = 10
# A word that fewer songs match could not fill an answer.
FEWEST_SONGS: Final = TOP
KINDS: Final = ("occasion", "era", "language", "mood")
Measures = dict[str, Floats]
Measured = dict[str, Measures]


@dataclass(frozen=True)
class Judge:
    """Measures answers, (queries, TOP) song indices with -1 for none, one value a query."""

    songs: Catalogue
    truth: Truth
    latest: Latest

    def __call__(self, queries: Sequence[Labelled], answers: IntArray) -> Measures:
        """Return what the songs are to the listener and the crowd, and the expected outcomes."""
        there = answers >= 0
        places = np.maximum(answers, 0)
        number = self.songs.numbers
        plays = number[SongRow.PLAYS] + 1.0
        surprise = -np.log2(plays / plays.sum())
        heard = [self._heard(labelled) for labelled in queries]
        known = np.stack([np.isin(row, songs) for row, songs in zip(places, heard, strict=True)])
        by = self.songs.codes[Song.ARTISTS].codes
        theirs = [np.isin(by[row], by[songs]) for row, songs in zip(places, heard, strict=True)]
        several = [len(set(by[row[row >= 0]])) for row in answers]
        likes = self._chances(queries, answers)
        return {
            "known_share": mean(known, there),
            "known_artist_share": mean(np.stack(theirs), there),
            "popularity_percentile": mean(number[SongRow.POPULARITY_PERCENTILE][places], there),
            "novelty_bits": mean(surprise[places], there),
            "artists": np.array(several, dtype=np.float64),
            "expected_likes": np.nansum(likes["like"], axis=1),
            "expected_skips": np.nansum(likes["skip"], axis=1),
        }

    def _heard(self, labelled: Labelled) -> IntArray:
        songs = self.songs.indices(self.latest.heard_by(labelled).tolist())
        return songs[songs >= 0]

    def _chances(self, queries: Sequence[Labelled], answers: IntArray) -> dict[str, Floats]:
        recent = [self.latest.before(one) for one in queries]
        return chances(self.truth, queries, self.songs.ids, answers, recent)


def mean(values: NDArray[Any], there: NDArray[np.bool_]) -> Floats:
    """Return each row's mean over the songs that are there; NaN without any."""
    count = there.sum(axis=1)
    return np.where(count, (values * there).sum(axis=1) / np.maximum(count, 1), np.nan)


def ask(recommender: Recommender, queries: Sequence[Query], what: str) -> IntArray:
    """Return the first `TOP` songs of each query's answer, -1 where there are fewer."""
    answers = np.full((len(queries), TOP), -1, dtype=np.int32)
    for row, query in zip(
        answers, tqdm(queries, desc=what, unit="query", mininterval=1), strict=True
    ):
        slate = recommender.recommend(query, TOP)
        found = recommender.retrieval.songs.indices([song.song_id for song in slate.songs])
        row[: len(found)] = found
    return answers


def wished(queries: Sequence[Labelled], wishes: Wishes) -> list[Query]:
    """Return the queries as the service asks them: with wishes, no repeats within the session."""
    return [replace(one.query, wishes=wishes, allow_repeats=False) for one in queries]


def modes(recommender: Recommender, judge: Judge, queries: Sequence[Labelled]) -> Measured:
    """Return every mode's measures."""
    asked = {mode: wished(queries, Wishes(mode=mode)) for mode in MODES}
    return {mode: judge(queries, ask(recommender, asked[mode], mode)) for mode in MODES}


def spacing(recommender: Recommender, judge: Judge, queries: Sequence[Labelled]) -> Measured:
    """Return measures without and with spacing, and the NDCG of the song that was played."""
    songs = recommender.retrieval.songs
    truth = songs.indices([labelled.answer for labelled in queries])
    found = {}
    for name, wishes in (("off", Wishes()), ("on", Wishes(spacing=True))):
        # As in the evaluation: everything may come again.
        asked = [replace(one.query, wishes=wishes) for one in queries]
        answers = ask(recommender, asked, f"spacing {name}")
        ranks = answer_ranks(answers, truth)
        found[name] = judge(queries, answers) | {"ndcg_10": ndcg(ranks, TOP)}
    return found


def asked_for(
    songs: Catalogue, queries: Sequence[Labelled], kind: str, seed: int
) -> list[Labelled]:
    """Return the queries, each naming a word of one kind drawn among those enough songs match."""
    words = words_of(songs, kind)
    drawn = np.random.default_rng(seed).choice(words, len(queries))
    return [
        replace(one, query=replace(one.query, context={kind: str(word)}))
        for one, word in zip(queries, drawn, strict=True)
    ]


def context(
    recommender: Recommender, judge: Judge, queries: Sequence[Labelled], kind: str, seed: int
) -> tuple[Measured, dict[str, Any]]:
    """Return precision and expected likes of requests that name a word, and precision by word.

    Compared, all judged in the named context: the answer without asking, the ranker that knows the
    word, the request as served, popular songs, and the most popular ones that match.
    """
    songs = recommender.retrieval.songs
    named = asked_for(songs, queries, kind, seed)
    unasked = [replace(one, query=replace(one.query, context={})) for one in queries]
    popularity = np.nan_to_num(songs.numbers[SongRow.POPULARITY])
    every = np.arange(len(songs), dtype=np.int32)
    words = [str(one.query.context[kind]) for one in named]
    matching = {word: context_match(songs, {kind: word}, every) > 0 for word in set(words)}
    answers = {
        "unasked": ask(recommender, wished(unasked, Wishes()), f"{kind}: not asked for"),
        "ranker": ask(recommender, wished(named, Wishes()), f"{kind}: ranker"),
        "served": ask(recommender, wished(named, Wishes(heed_context=True)), f"{kind}: served"),
        "popular": np.tile(best(popularity, TOP), (len(named), 1)).astype(np.int32),
        "popular_matching": np.stack(
            [best(np.where(matching[word], popularity, -1), TOP) for word in words]
        ).astype(np.int32),
    }
    measured = {
        name: judge(named, found) | {"precision": precision(songs, named, found)}
        for name, found in answers.items()
    }
    return measured, by_word(words, measured["served"]["precision"], matching)


def by_word(
    words: Sequence[str], values: Floats, matching: Mapping[str, NDArray[np.bool_]]
) -> dict[str, Any]:
    """Return each word's mean precision, how often it was asked for, and the songs that match."""
    asked = np.array(words, dtype=object)
    return {
        word: {
            "precision": float(values[asked == word].mean()),
            "queries": int((asked == word).sum()),
            "songs": int(matching[word].sum()),
        }
        for word in sorted(set(words))
    }


def words_of(songs: Catalogue, kind: str) -> list[str]:
    """Return the words of one kind that at least `FEWEST_SONGS` songs match."""
    if kind in TAGS:
        tags = songs.tags[TAGS[kind]]
        counts = tags.has.sum(axis=0)
        return [str(w) for w, n in zip(tags.vocabulary, counts, strict=True) if n >= FEWEST_SONGS]
    codes = songs.codes[CODES[kind]]
    counts = np.bincount(codes.codes[codes.codes >= 0], minlength=len(codes.vocabulary))
    return [str(w) for w, n in zip(codes.vocabulary, counts, strict=True) if n >= FEWEST_SONGS]


def precision(songs: Catalogue, queries: Sequence[Labelled], answers: IntArray) -> Floats:
    """Return the share of `TOP` that matches the query's context; a missing song is a miss."""
    rows = [
        (context_match(songs, one.query.context, np.maximum(row, 0)) > 0) & (row >= 0)
        for one, row in zip(queries, answers, strict=True)
    ]
    return np.stack(rows).sum(axis=1) / TOP


def summarise(
    measured: Mapping[str, Measures], base: str, clusters: NDArray[np.int64], draws: int, seed: int
) -> dict[str, Any]:
    """Return mean, difference from `base`, and their 95 % intervals over listeners."""
    found: dict[str, Any] = {}
    for name, measures in measured.items():
        own = np.column_stack(list(measures.values()))
        minus = own - np.column_stack([measured[base][key] for key in measures])
        boot = cluster_bootstrap(np.hstack([own, minus]), clusters, draws, seed)
        means = np.nanmean(np.hstack([own, minus]), axis=0)
        size = len(measures)
        found[name] = {
            key: {
                "value": float(means[i]),
                "interval": interval(boot[:, i]),
                f"minus_{base}": float(means[size + i]),
                f"minus_{base}_interval": interval(boot[:, size + i]),
            }
            for i, key in enumerate(measures)
        }
    return found


def show(found: Mapping[str, Any], keys: Sequence[str], base: str, title: str) -> str:
    """Return some measures as a table: value and interval, difference and interval."""

    def cell(one: Mapping[str, Any]) -> Iterator[str]:
        yield f"{one['value']:.3f}{bounds(*one['interval'], form='.3f')}"
        yield f"{one[f'minus_{base}']:+.3f}{bounds(*one[f'minus_{base}_interval'], form='+.3f')}"

    header = [title, *(h for key in keys for h in (key, f"minus {base}"))]
    rows = [[name, *(c for key in keys for c in cell(one[key]))] for name, one in found.items()]
    return table(header, rows)


def load_cut(cut: Cut) -> Recommender:
    """Return the test bundle, or for the label phase its generators with the ranker of its rows.

    That ranker learned from the label phase itself; it only serves to choose weights there.
    """
    if cut == "test":
        return Recommender.load(data_dir() / "bundles" / "test")
    retrieval = load_retrieval(data_dir() / "generators" / "labels")
    ranker = load_ranker(data_dir() / "ranker" / "test", retrieval.feature_names)
    return Recommender(retrieval, ranker, {"version": "labels"})


def measure(
    recommender: Recommender, judge: Judge, queries: Sequence[Labelled], how: Evaluation
) -> dict[str, Any]:
    """Return the figures of modes, spacing and contexts; print each table when it is there."""
    clusters = pd.factorize(np.array([one.user_id for one in queries], dtype=object))[0]

    def told(measured: Measured, base: str, title: str, *keys: str) -> dict[str, Any]:
        found = summarise(measured, base, clusters, how.bootstrap, how.seed)
        sys.stdout.write(show(found, keys, base, title) + "\n")
        return found

    shares = ("known_share", "known_artist_share", "popularity_percentile", "novelty_bits")
    figures = {
        "modes": told(
            modes(recommender, judge, queries), "balanced", "mode", *shares, "expected_likes"
        ),
        "spacing": told(
            spacing(recommender, judge, queries), "off", "spacing", "ndcg_10", "artists",
            "expected_likes",
        ),
        "context": {},
        "context_words": {},
    }  # fmt: skip
    for kind in KINDS:
        measured, words = context(recommender, judge, queries, kind, how.seed)
        measures = ("precision", "expected_likes", "expected_skips")
        figures["context"][kind] = told(measured, "unasked", kind, *measures)
        figures["context_words"][kind] = words
    return figures


def main() -> None:
    """Measure modes, spacing and contexts on simulated listeners."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cut", choices=("labels", "test"), default="test")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--name", default="modes", help="name of the result file")
    arguments = parser.parse_args()
    params, facts = load_params(), machine()
    how, lake = params.evaluation, data_dir() / "lake"
    phases = read_phases(data_dir() / "phases.json")
    recommender = replace(load_cut(arguments.cut), modes=params.modes, steering=params.steering)
    latest = Latest.of(read_until_end(lake, phases))
    judge = Judge(recommender.retrieval.songs, Truth.load(data_dir() / "truth"), latest)
    sample = Sample(arguments.queries, how.seed)
    queries = phase_queries(lake, phases, arguments.cut, recommender.history_songs, sample)
    figures = measure(recommender, judge, queries, how)
    if arguments.cut == "labels":
        return
    protocol = {
        "what": "first 10 songs; expected likes and skips by the simulator's truth; differences "
        "query by query; bootstrap over listeners",
        "bundle": recommender.version,
        "modes": params.modes.model_dump(),
        "steering": params.steering.model_dump(),
        "queries": len(queries),
        "listeners": len({one.user_id for one in queries}),
        "bootstrap": how.bootstrap,
        "seed": how.seed,
    }
    sys.stdout.write(f"wrote {save(arguments.name, facts, protocol, figures)}\n")


if __name__ == "__main__":
    run_command(main)
