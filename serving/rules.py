"""What an answer may hold, and in what order: hard rules bar songs, soft rules space them.

Hard rules are never relaxed: excluded songs, explicit songs, songs that are not available in the
listener's region, refused languages. Soft rules give way where they would leave an answer short:
songs of the session come again where there are fewer candidates than places; where spacing leaves
nothing for a place, albums give way before artists, and these before songs of one name and artist.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue, IntArray, Tags
from features.columns import Song, User
from features.pairs import among
from features.query import Query

ALBUM, ARTIST, REPEATS = "album_spacing", "artist_spacing", "session_repeats"
RECORDING = "same_recording"
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Rights:
    """Which songs are explicit, and where songs may be played; None where the source is silent."""

    explicit: Mask | None
    regions: Tags | None

    @classmethod
    def of(cls, songs: Catalogue) -> "Rights":
        """Read what the catalogue holds; null restricts nothing."""
        return cls(songs.explicit, songs.regions_available)

    def left(
        self, query: Query, songs: Catalogue, candidates: IntArray, barred: IntArray
    ) -> IntArray:
        """Return the candidates that are not barred and that the hard rules allow, in order."""
        candidates = allowed(candidates, barred)
        mask = self.permitted(query, songs, candidates)
        return candidates if mask is None else candidates[mask]

    def permitted(self, query: Query, songs: Catalogue, candidates: IntArray) -> Mask | None:
        """Return which candidates the hard rules allow; None where no rule applies."""
        masks = []
        if self.explicit is not None and not query.wishes.allow_explicit:
            masks.append(~self.explicit[candidates])
        if query.wishes.refused_languages:
            codes = songs.codes[Song.LANGUAGE]
            refused = [codes.code_of.get(word, -2) for word in query.wishes.refused_languages]
            masks.append(~np.isin(codes.codes[candidates], refused))
        place = query.user.get(User.REGION)
        if self.regions is not None and isinstance(place, str):
            masks.append(available(self.regions, place, candidates))
        return np.logical_and.reduce(masks) if masks else None


class CodeOfPlace(Protocol):
    """A code for each candidate, by its place."""

    def __getitem__(self, place: int, /) -> int:
        """Return the code, -1 for none."""


class Recordings(dict[int, int]):
    """The codes of songs by title and first artist; of the few that come into question."""

    def __init__(self, catalogue: Catalogue, songs: IntArray) -> None:
        super().__init__()
        self.catalogue = catalogue
        self.songs = songs

    def __missing__(self, place: int) -> int:
        """Look a song's names up; one without a title is like no other."""
        song = int(self.songs[place])
        title = self.catalogue.names.title(song)
        artist = int(self.catalogue.codes[Song.ARTISTS].codes[song])
        self[place] = -1 if title is None else abs(hash((title.casefold(), artist)))
        return self[place]


@dataclass(frozen=True)
class Limit:
    """A soft rule: at most `limit` songs of one code within any `window` places on end.

    `codes` are those of the candidates by place, -1 for none; `before` those of the songs that were
    played last, which the answer continues.
    """

    rule: str
    codes: CodeOfPlace
    before: Sequence[int]
    limit: int
    window: int


def kept_out(query: Query) -> frozenset[str]:
    """Return the ids that may not be proposed, apart from the session's plays.

    The excluded, the unwanted, and, unless repeats are allowed, those that a radio starts from.
    """
    wishes = query.wishes
    unwanted = query.exclude.union(wishes.less_like)
    return unwanted if query.allow_repeats else unwanted.union(wishes.seed_songs)


def barred(query: Query, songs: Catalogue, played: IntArray) -> IntArray:
    """Return the songs that may not be proposed, whatever their rights; one may come twice.

    Those that are kept out, and, unless repeats are allowed, those `played` in the session.
    """
    if query.allow_repeats:
        played = played[:0]
    ids = kept_out(query)
    if not ids:
        return played
    found = songs.indices(sorted(ids))
    return np.concatenate([found[found >= 0], played])


def allowed(songs: IntArray, barred: IntArray) -> IntArray:
    """Return the songs that are not barred, in their order."""
    return songs[~among(songs, barred)] if len(barred) else songs


def available(regions: Tags, place: str, candidates: IntArray) -> Mask:
    """Tell which songs may be played in a region: those that name it, or name none."""
    rows = regions.has[candidates]
    column = regions.code_of.get(place)
    here = np.zeros(len(rows), np.bool_) if column is None else rows[:, column]
    return np.asarray(here | ~rows.any(axis=1), dtype=np.bool_)


def spaced(order: Sequence[int], limits: Sequence[Limit], k: int) -> tuple[list[int], list[str]]:
    """Return the first `k` of `order` that keep all limits, and the rules that had to give way.

    Each place takes the best song left that no limit bars. Where there is none, the limits give
    way from the first to the last, for this place.

    Parameters
    ----------
    order
        Places of candidates, best first.
    limits
        In the order in which they give way.
    """
    waiting, chosen, relaxed = list(order), list[int](), dict[str, None]()
    tails = [list(one.before) for one in limits]
    while waiting and len(chosen) < k:
        full = [_full(one, tail) for one, tail in zip(limits, tails, strict=True)]
        for kept in range(len(limits) + 1):
            place = _first(waiting, limits[kept:], full[kept:])
            if place is not None:
                break
            relaxed[limits[kept].rule] = None
        picked = waiting.pop(place or 0)
        chosen.append(picked)
        for one, tail in zip(limits, tails, strict=True):
            tail.append(one.codes[picked])
    return chosen, list(relaxed)


@dataclass
class Following:
    """Tells which candidates the next place of a drawn slate may take.

    Limits give way as in `spaced`, from the first to the last, where nothing else is left;
    `relaxed` remembers those that did.
    """

    limits: Sequence[Limit]
    candidates: int
    relaxed: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look up the codes of all candidates: any may be drawn."""
        places = range(self.candidates)
        self.codes = [np.array([one.codes[place] for place in places]) for one in self.limits]

    def __call__(self, chosen: Sequence[int], left: Mask) -> Mask:
        """Return which of the candidates that are left may take the place after those chosen."""
        if not left.any():
            # Nothing gives way for a place that nobody can take.
            return left
        tails = [[*one.before, *(one.codes[place] for place in chosen)] for one in self.limits]
        free = [
            ~np.isin(codes, list(_full(one, tail)))
            for one, codes, tail in zip(self.limits, self.codes, tails, strict=True)
        ]
        for kept, limit in enumerate(self.limits):
            may: Mask = np.logical_and.reduce([left, *free[kept:]])
            if may.any():
                return may
            self.relaxed[limit.rule] = None
        return left


def _full(limit: Limit, tail: Sequence[int]) -> set[int]:
    """Return the codes that the next place may not take."""
    last = tail[-(limit.window - 1) :] if limit.window > 1 else ()
    return {c for c, n in Counter(last).items() if c >= 0 and n >= limit.limit}


def _first(waiting: Sequence[int], limits: Sequence[Limit], full: Sequence[set[int]]) -> int | None:
    pairs = [(one.codes, barred) for one, barred in zip(limits, full, strict=True) if barred]
    for place, candidate in enumerate(waiting):
        if all(codes[candidate] not in barred for codes, barred in pairs):
            return place
    return None
