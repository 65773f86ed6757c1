"""What an answer says of itself: wishes that the catalogue does not know, and too few songs."""

from features.catalogue import Catalogue
from features.columns import Song
from features.query import Query
from serving.context_songs import LISTED, named, words_of


def unknown(songs: Catalogue, query: Query) -> list[str]:
    """Say which ids and words of a query's wishes the catalogue does not know, a note each."""
    wishes = query.wishes
    ids = [("seed", one) for one in wishes.seed_songs]
    ids += [("less_like", one) for one in wishes.less_like]
    lost = [
        f"{field}: the catalogue has no song {i!r}." for field, i in ids if i not in songs.index_of
    ]
    artist = wishes.seed_artist
    if artist and artist not in songs.codes[Song.ARTISTS].code_of:
        lost.append(f"seed: the catalogue has no artist {artist!r}.")
    words = [
        (f"context.{kind}", word)
        for kind, word in (named(query.context) if wishes.heed_context else ())
        if word not in words_of(songs, kind)
    ]
    words += [
        ("profile.refused_languages", word)
        for word in sorted(wishes.refused_languages)
        if word not in words_of(songs, "language") and word not in songs.listener_languages
    ]
    return lost + [f"{field}: no song is of {word!r}; {LISTED}." for field, word in words]


def too_short(found: int, k: int) -> tuple[str, ...]:
    """Return the note that an answer has fewer songs than were asked for; none where it has all."""
    return (f"short: only {found} of {k} songs may be proposed.",) if found < k else ()
