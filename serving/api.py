"""What the HTTP API takes and returns. Unknown fields are refused by name."""

from json import JSONDecoder
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import to_json

from features.columns import ActionName
from features.contract import MOST_CHARACTERS
from features.params import MIN_TEMPERATURE, Moment, sampled_or_not
from features.query import MAX_SESSION, Mode
from features.times import UTC_OFFSETS

# As the import takes it: no blanks around it (separators are such, for Arrow), and no character
# that a database lacks.
TRIMMED: Final = r"^[^\s\x00\x1c-\x1f]([^\x00]*[^\s\x00\x1c-\x1f])?$"
Id = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS, pattern=TRIMMED)]
Word = Annotated[str, Field(min_length=1, max_length=64)]
Era = Annotated[str, Field(pattern=r"^[12][0-9]{2}0$", description="A decade, such as 1990.")]


Temperature = Annotated[
    float,
    Field(
        ge=0,
        le=100,
        json_schema_extra={"anyOf": [{"maximum": 0}, {"minimum": MIN_TEMPERATURE}]},
    ),
    AfterValidator(sampled_or_not),
]
MAX_EXCLUDED: Final = 10_000
MAX_SONGS: Final = 100
MAX_SEEDS: Final = 100
DAY_MS: Final = 86_400_000
_DECODER: Final = JSONDecoder()

EXAMPLE: Final[dict[str, Any]] = {
    "user_id": None,
    "profile": {"birth_year": 1994, "region": "Europe", "languages": ["en", "de"]},
    "session": [
        {"song_id": "s0000012", "action": "play", "played_ms": 201000},
        {"song_id": "s0000345", "action": "skip", "played_ms": 9000},
    ],
    "context": {"occasion": "party", "mood": "happy", "device": "phone"},
    "exclude": ["s0000012"],
    "k": 10,
    "explain": True,
}
ANSWER: Final[dict[str, Any]] = {
    "request_id": "6f0c3a5e0d8f4c6f9a55f3f5f1f0f6a1",
    "model_version": "20240301T000000",
    "variant": "ranker",
    "degraded": [],
    "unknown_songs": [],
    "relaxed": [],
    "notes": [],
    "songs": [
        {
            "song_id": "s0000078",
            "title": "Paper Lanterns",
            "artists": ["The Night Ferry"],
            "position": 1,
            "propensity": 1.0,
            "score": 1.87,
            "p_like": 0.12,
            "sources": ["transitions", "listen"],
            "reasons": ["For party", "Played after Paper Boats"],
            "why": [
                {"text": "For party", "kind": "occasion", "of": "request", "effect": 2.4}
                | {"song_id": None},
                {"text": "Played after Paper Boats", "kind": "transitions"}
                | {"of": "transitions", "effect": 0.21, "song_id": "s0000012"},
            ],
        }
    ],
}


class StrictModel(BaseModel):
    """What clients send: unknown fields and other types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SessionAction(StrictModel):
    """One action of the running session."""

    song_id: Id
    action: ActionName = "play"
    played_ms: Annotated[int, Field(ge=0, le=DAY_MS)] | None = None


class Profile(StrictModel):
    """What newcomers say of themselves; fills what is not known of the listener."""

    birth_year: Annotated[int, Field(ge=1900, le=2100)] | None = None
    country: Word | None = None
    region: Word | None = None
    utc_offset_minutes: Annotated[int, Field(ge=UTC_OFFSETS[0], le=UTC_OFFSETS[1])] | None = None
    languages: Annotated[list[Word], Field(max_length=20)] = []
    favourite_artists: Annotated[list[Id], Field(max_length=100)] = []
    refused_languages: Annotated[list[Word], Field(max_length=50)] = []


class Context(StrictModel):
    """The moment: what for, in which mood, when. `ts` is now where it is not given."""

    occasion: Word | None = None
    mood: Word | None = None
    activity: Word | None = None
    device: Word | None = None
    language: Word | None = None
    era: Era | None = None
    region: Word | None = None
    ts: Moment | None = None


class Seed(StrictModel):
    """What a radio starts from: a song, an artist, or the songs of a playlist; just one of them."""

    song_id: Id | None = None
    artist: Id | None = None
    song_ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_SEEDS)] | None = None

    @model_validator(mode="after")
    def _just_one(self) -> "Seed":
        if len([x for x in (self.song_id, self.artist, self.song_ids) if x is not None]) != 1:
            raise ValueError("Name just one of song_id, artist and song_ids.")
        return self


class RecommendRequest(StrictModel):
    """A listener, their session so far and the moment."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    user_id: Id | None = None
    profile: Profile | None = None
    session_id: Id | None = None
    session: Annotated[list[SessionAction], Field(max_length=MAX_SESSION)] = []
    context: Context | None = None
    exclude: Annotated[list[Id], Field(max_length=MAX_EXCLUDED)] = []
    k: Annotated[int, Field(ge=1, le=MAX_SONGS)] = 10
    explain: bool = False
    allow_repeats: bool = False
    temperature: Temperature | None = None
    mode: Mode = "balanced"
    seed: Seed | None = None
    less_like: Annotated[list[Id], Field(max_length=MAX_SEEDS)] = []
    spacing: bool = False
    allow_explicit: bool = True
    # Not: the context is what is known of the moment, as in training and evaluation, and no wish.
    heed_context: bool = True


class SongName(BaseModel):
    """A song as a listener knows it; `title` is null where the source has none."""

    song_id: str
    title: str | None
    artists: list[str]


class Why(BaseModel):
    """What stands behind a reason.

    `effect` is by how much the score of `of` falls without it: of the `ranker`, of the generator
    that the heard song `song_id` speaks through, or by the wish of the `request` itself.
    """

    text: str
    kind: str
    of: str
    effect: float
    song_id: str | None


class RecommendedSong(SongName):
    """One song of an answer; `sources`, `reasons` and `why` are filled on `explain`.

    `propensity` is the probability of this song at this position, given those before it.
    """

    position: int
    propensity: float
    score: float
    p_like: float | None
    sources: list[str]
    reasons: list[str]
    why: list[Why]


class RecommendResponse(BaseModel):
    """An answer, best song first. `degraded` names what could not be used for it.

    `relaxed` names the rules that gave way so that the answer is not short; `notes` say what could
    not be done as wished.
    """

    model_config = ConfigDict(
        json_schema_extra={"example": ANSWER}, protected_namespaces=(), frozen=True
    )

    request_id: str
    model_version: str
    variant: Literal["ranker", "retrieval", "popularity"]
    degraded: list[str]
    unknown_songs: list[str]
    relaxed: list[str]
    notes: list[str]
    songs: list[RecommendedSong]


def as_json(answer: dict[str, Any]) -> bytes:
    """Return the JSON of `RecommendResponse` of what such an answer holds, in its fields' order.

    It is not checked once more: that, and objects in between, would take twice as long again.
    """
    return to_json(answer, inf_nan_mode="null")


class FoundSong(SongName):
    """A song that a search found."""


class Search(BaseModel):
    """Songs found, those where a name begins with the words first, then by popularity."""

    songs: list[FoundSong]


class SimilarSong(SongName):
    """A song and how near it is."""

    score: float


class Similar(BaseModel):
    """Songs like one song. `by` is the model that said so: `listen`, `together` or `none`."""

    song_id: str
    by: Literal["listen", "together", "none"]
    songs: list[SimilarSong]


class Listener(BaseModel):
    """A listener that the page offers."""

    user_id: str
    label: str


class Listeners(BaseModel):
    """Some known listeners, to try the service with."""

    listeners: list[Listener]


class Vocabulary(BaseModel):
    """The words that the catalogue knows, for context and profile."""

    occasion: list[str]
    mood: list[str]
    era: list[str]
    language: list[str]
    region: list[str]


class Status(BaseModel):
    """What is being served."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str
    as_of: str | None
    feature_service: str | None
    songs: int
    vocabulary: Vocabulary


def faults(error: ValidationError) -> str:
    """Return which fields are wrong and why, in one line."""
    found = listed(error, 5)
    lines = [f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in found]
    return "; ".join([*lines, "..."] if error.error_count() > len(lines) else lines)


def listed(error: ValidationError, most: int) -> list[dict[str, Any]]:
    """Return the first faults, each with its place, kind and message.

    A body may have hundreds of thousands; to make objects of all of them takes seconds.
    """
    text = error.json(include_url=False, include_input=False)
    found: list[dict[str, Any]] = []
    at = 0
    while len(found) < min(most, error.error_count()):
        # Past the opening bracket or a comma.
        fault, at = _DECODER.raw_decode(text, at + 1)
        if fault.get("ctx", {}).get("pattern") == TRIMMED:
            fault["msg"] = "String should begin and end without a blank, and hold no NUL"
        found.append(fault)
    return found
