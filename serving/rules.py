"""What an answer may hold: hard rules, which never give way.

Withdrawn songs, excluded songs, explicit songs, songs that are not available in the listener's
region, refused languages.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue, IntArray, Tags
from features.columns import Song, User
from features.pairs import among
from features.query import Query

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Rights:
    """Which songs are explicit, where songs may be played, and which may no more.

    Each None where the source is silent.
    """

    explicit: Mask | None
    regions: Tags | None
    withdrawn: Mask | None

    @classmethod
    def of(cls, songs: Catalogue) -> "Rights":
        """Read what the catalogue holds; null restricts nothing."""
        return cls(songs.explicit, songs.regions_available, songs.withdrawn)

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
        if self.withdrawn is not None:
            masks.append(~self.withdrawn[candidates])
        if self.explicit is not None and not query.wishes.allow_explicit:
            masks.append(~self.explicit[candidates])
        if query.wishes.refused_languages:
            codes = songs.codes[Song.LANGUAGE]
            refused = [codes.code(word) for word in query.wishes.refused_languages]
            masks.append(~np.isin(codes.codes[candidates], refused))
        place = query.user.get(User.REGION)
        if self.regions is not None and isinstance(place, str):
            masks.append(available(self.regions, place, candidates))
        return np.logical_and.reduce(masks) if masks else None


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
