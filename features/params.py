"""`params.yaml` as frozen, typed objects; unknown keys, and missing ones, are refused.

What has a default may be missing: settings of earlier days, in bundles, are read with it.
"""

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from features.mistakes import Mistake
from features.paths import PROJECT

# Of days, weights and rates: more would overflow somewhere on the way to a score.
LARGEST: Final = 1_000_000
# What LightGBM and implicit take for a whole number.
LARGEST_WHOLE: Final = 2**31 - 1
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
Count = Annotated[int, Field(ge=1, le=LARGEST_WHOLE)]
Share = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
Whole = Annotated[int, Field(ge=0, le=LARGEST_WHOLE)]
Seed = Whole
# Of a booster: more than 1 overshoots, and scores grow without end.
Rate = PositiveFraction
# LightGBM reserves half a megabyte a leaf, however few rows there are.
Leaves = Annotated[int, Field(ge=2, le=4096)]
SignalName = Literal["like", "playlist", "skip", "listen"]
SIGNALS: Final[tuple[SignalName, ...]] = get_args(SignalName)

# Scores divided by less overflow, and propensities would be no numbers.
MIN_TEMPERATURE: Final = 0.001


def _spelt(moment: object) -> object:
    """Refuse what is no date: numbers, and texts of digits, would pass for times since 1970."""
    is_date = isinstance(moment, str) and _DATE.match(moment) is not None
    if not is_date and not isinstance(moment, datetime):
        raise ValueError("A moment is a date, a time and a zone, such as 2026-11-01T08:00:00Z.")
    return moment


_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt _]")
# Strict, it would take no text, once that was looked at.
Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_spelt)]


def sampled_or_not(temperature: float) -> float:
    """Return a temperature as it is.

    Raises
    ------
    ValueError
        If it is above 0 and too small to divide scores by.
    """
    if 0 < temperature < MIN_TEMPERATURE:
        raise ValueError(
            f"A temperature is 0, for the best songs in order, or from {MIN_TEMPERATURE} on."
        )
    return temperature


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Source(_Section):
    """Where the events come from (`features.sources`)."""

    name: Literal["simulated", "30music", "files"]
    path: str
    columns: dict[str, dict[str, str | None]] = {}


class Simulation(_Section):
    """The simulated world."""

    size: Literal["tiny", "default", "large"]
    seed: Seed


class Ingest(_Section):
    """When an import stops."""

    max_bad_share: Fraction


class PhaseShares(_Section):
    """How the source's time span is cut into history, labels and test."""

    labels_share: Share
    test_share: Share
    gap_minutes: Annotated[int, Field(ge=30, le=LARGEST)]
    as_of: Moment | None


class Features(_Section):
    """Snapshots, and the windows of the aggregates."""

    snapshots_per_phase: Whole
    window_days: Positive
    half_life_days: Positive
    trend_days: Positive
    history_songs: Count


class Signal(_Section):
    """Window k and half-life h in days, factor model, and place in the blend.

    `frequency_exponent` is Rendle's nu: 0 regularises every row alike, 1 in proportion to its
    observations; `regularization` is the mean over the rows. With `skip_as: zero` skips enter this
    signal's matrix as observed zeros too.
    """

    window_days: Positive
    half_life_days: Positive
    factors: Count
    regularization: NotNegative
    alpha: Positive
    iterations: Count
    frequency_exponent: Fraction
    skip_as: Literal["matrix", "zero"]
    weight: Number
    candidates: Whole


class Generator(_Section):
    """How many songs a generator proposes, 0 if it only scores; one not `enabled` does neither.

    `trending` cannot be switched off (`Params`).
    """

    enabled: bool = True
    candidates: Whole


class Seeds(Generator):
    """How many of the session's last songs ask, each one back worth `seed_decay`."""

    seeds: Count
    seed_decay: PositiveFraction
    half_life_days: Positive


class Links(Seeds):
    """Fitted links from song to song; each song keeps the strongest `neighbours`."""

    neighbours: Count


class Transitions(Links):
    """Directed neighbours: which song came up to `max_gap` places later."""

    max_gap: Count
    gap_decay: PositiveFraction


class Loops(Generator):
    """What followed the current song earlier in the session, up to `max_gap` places behind it.

    Each place further counts `gap_decay`, each time longer ago `age_decay`.
    """

    max_gap: Count
    gap_decay: PositiveFraction
    age_decay: PositiveFraction


class Ease(Links):
    """Closed-form item-item weights over the `max_songs` heard most."""

    regularization: Positive
    max_songs: Count


class Vectors(Seeds):
    """Song vectors of co-occurrence up to `max_gap` places apart, decaying with distance."""

    factors: Count
    max_gap: Count
    gap_decay: PositiveFraction


class Sessions(Links):
    """Nearest past sessions; each song keeps its `per_song` latest.

    A neighbour's song `d` places after the shared one counts exp(-(d - 1) / distance), and one
    before it `backward` times that.
    """

    per_song: Count
    distance: Positive
    backward: Fraction


class Matches(Generator):
    """What followed where past sessions match the running one's last songs, up to `longest`.

    Each song more in a row counts `gain` times as much. Reads what `sessions` writes.
    """

    longest: Count
    gain: Annotated[float, Field(ge=1, le=LARGEST)]


class Recent(Generator):
    """A generator of what was heard lately."""

    half_life_days: Positive


class Fresh(Generator):
    """Songs younger than so many days: of the listener's artists, genres and languages."""

    days: Positive


class Dayparts(_Section):
    """Features from (listener, song) pairs x 28 dayparts: exact factors and non-negative parts.

    A song's or pair's own dayparts count against `prior` plays of everybody's.
    """

    enabled: bool
    half_life_days: Positive
    factors: Annotated[int, Field(ge=1, le=28)]
    parts: Annotated[int, Field(ge=1, le=28)]
    prior: Positive


class Tensor(Generator):
    """The tensor listener x song x daypart as a sum of `factors` products of three factors."""

    half_life_days: Positive
    factors: Count
    regularization: Positive
    alpha: Positive
    iterations: Count


class Generators(_Section):
    """One section a generator; the factors' sections are under `signals`."""

    transitions: Transitions
    rules: Transitions
    together: Links
    listeners: Links
    ease: Ease
    vectors: Vectors
    loops: Loops
    sessions: Sessions
    repeats: Recent
    artists: Generator
    trending: Recent
    blend: Generator
    # Bundles from before there were any have them off.
    fresh: Fresh = Fresh(enabled=False, days=14, candidates=0)
    continuations: Matches = Matches(enabled=False, longest=5, gain=4.0, candidates=0)
    dayparts: Dayparts = Dayparts(enabled=False, half_life_days=180, factors=6, parts=4, prior=20)
    tensor: Tensor = Tensor(
        enabled=False,
        half_life_days=120,
        factors=32,
        regularization=0.5,
        alpha=10,
        iterations=8,
        candidates=60,
    )


class OutcomeWeights(_Section):
    """What a training query weighs, by what the listener did with the song that was played."""

    skip: NotNegative
    neutral: Positive
    full: Positive
    liked: Positive


class StartsRanker(_Section):
    """LightGBM's settings for what is added at session starts (`training.starts`)."""

    rounds: Count
    learning_rate: Rate
    num_leaves: Leaves
    min_data_in_leaf: Count
    feature_fraction: PositiveFraction
    bagging_fraction: PositiveFraction
    lambda_l2: NotNegative


class Ranker(_Section):
    """LightGBM lambdarank."""

    rounds: Count
    learning_rate: Rate
    num_leaves: Leaves
    min_data_in_leaf: Count
    feature_fraction: PositiveFraction
    max_queries: Count
    starts_share: Fraction
    negatives: Count
    later_gain: Annotated[float, Field(ge=0, lt=1)]
    weights: OutcomeWeights
    slate_value: Fraction
    starts: StartsRanker
    seed: Seed


class Exploration(_Section):
    """How slates are sampled (`serving.exploration`); temperature 0 gives the best songs."""

    temperature: Annotated[NotNegative, AfterValidator(sampled_or_not)] = 0.0


class Feedback(_Section):
    """What a session's skips cost songs like the skipped (`serving.skips.skip_cost`).

    Each weight is in standard deviations of the pool's scores.
    """

    artist: NotNegative = 0.5
    genre: NotNegative = 0.25
    mood: NotNegative = 0.25
    tempo: NotNegative = 0.25
    decay: PositiveFraction = 0.8


class ModeWeights(_Section):
    """What a mode adds to a song's score, in standard deviations of the pool's scores.

    `known` counts for a song of the listener's history or session, `known_artist` for another song
    of an artist heard there, `popularity` times the song's place among the candidates, the
    most popular at 1.
    """

    known: Number
    known_artist: Number
    popularity: Number


class Modes(_Section):
    """One section a mode; `balanced` adds nothing and has none."""

    familiar: ModeWeights = ModeWeights(known=2.0, known_artist=0.5, popularity=0.0)
    discover: ModeWeights = ModeWeights(known=-0.5, known_artist=-0.5, popularity=0.0)
    popular: ModeWeights = ModeWeights(known=0.0, known_artist=0.0, popularity=2.0)
    deep_cuts: ModeWeights = ModeWeights(known=0.0, known_artist=1.0, popularity=-3.0)


class Spacing(_Section):
    """At most `limit` songs of one kind within any `window` places on end."""

    limit: Count
    window: Count


class Steering(_Section):
    """How far wishes reach: weights in standard deviations of the pool's scores.

    `context_weight` times the share of the asked context that a song matches, `radio_weight` times
    its nearness (0 to 1) to the radio's seeds, `less_like_weight` times that to unwanted songs.
    """

    context_weight: NotNegative = 4.0
    context_candidates: Whole = 60
    radio_weight: NotNegative = 2.0
    less_like_weight: NotNegative = 4.0
    artist: Spacing = Spacing(limit=3, window=6)
    album: Spacing = Spacing(limit=2, window=4)


class Evaluation(_Section):
    """How much is measured, and with which seed; at least `starts_share` are session starts."""

    max_queries: Count
    starts_share: Fraction = 0.0
    bootstrap: Count
    seed: Seed


class Params(_Section):
    """All of `params.yaml`."""

    source: Source
    simulation: Simulation
    ingest: Ingest
    phases: PhaseShares
    features: Features
    signals: dict[SignalName, Signal]
    generators: Generators
    ranker: Ranker
    exploration: Exploration = Exploration()
    feedback: Feedback = Feedback()
    modes: Modes = Modes()
    steering: Steering = Steering()
    evaluation: Evaluation

    @field_validator("signals")
    @classmethod
    def _all_there(cls, signals: dict[SignalName, Signal]) -> dict[SignalName, Signal]:
        missing = set(SIGNALS) - set(signals)
        if missing:
            raise ValueError(f"lacks {sorted(missing)}; add them.")
        if signals["skip"].skip_as != "matrix":
            raise ValueError("skips are `skip` itself; set signals.skip.skip_as to `matrix`.")
        return signals

    # Here and not in `Generators`, which bundles of earlier, laxer days are read with too.
    @field_validator("generators")
    @classmethod
    def _switches_heeded(cls, generators: Generators) -> Generators:
        """Refuse a switch that would change nothing, or more than it says."""
        # Others fall back on it.
        if not generators.trending.enabled:
            raise ValueError(
                "trending cannot be switched off; set its `candidates` to 0, so that it "
                "proposes nothing, and take `enabled` out."
            )
        if generators.continuations.enabled and not generators.sessions.enabled:
            raise ValueError(
                "continuations reads what sessions writes; switch both off, or set the "
                "`candidates` of sessions to 0."
            )
        return generators


def load_params(path: Path = PROJECT / "params.yaml") -> Params:
    """Read and check the parameters.

    Raises
    ------
    Mistake
        If the file is no YAML, or a key is unknown, missing, out of range or at odds with others;
        the message names file and line or key.
    """
    try:
        return Params.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Mistake(f"{path} is no YAML, mend it: {error}") from error
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        ]
        raise Mistake(f"{path} is not valid, mend these keys:\n" + "\n".join(lines)) from error
