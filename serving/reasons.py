"""Why this song, in words: from what the ranker saw in it and from the songs behind that.

Kinds of evidence are ordered by how far the ranker's score falls without them (`evidence`); where
a kind comes from songs that the listener heard, the one with the largest effect is named
(`explain`). A reason is given only if what it names really raised a score; where there is nothing
such, who proposed the song says why it is there (`proposed`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from features.catalogue import FloatArray, IntArray
from features.state import State
from serving.candidates import CONTEXT, FURTHER, REPEATS
from serving.context_songs import CODES, TAGS
from serving.evidence import evidence
from serving.explain import Effects, factor_parts, link_effects
from serving.generators import Neighbours, SignalFactors
from serving.ranker import Ranker
from serving.retrieval import BLEND, Retrieval
from serving.sentences import SENTENCES, for_context, well_known

MOST: Final = 2
LINKED: Final = ("transitions", "together", "listeners")
# What is true of a song because of who proposed it, where nothing weightier can be said.
PROPOSED: Final = {
    "like": "Liked by listeners with a taste like yours",
    "playlist": "Added by listeners with a taste like yours",
    "listen": "Heard by listeners with a taste like yours",
    BLEND: "Heard by listeners with a taste like yours",
    "transitions": "Played after songs like these",
    "rules": "Played after songs like these",
    "together": "Played together with songs like these",
    "ease": "Played together with songs like these",
    "listeners": "Heard by listeners of songs like these",
    "vectors": "Played among songs like these",
    "sessions": "Played in sessions with songs like these",
    "continuations": "What came next where sessions went like this",
    "loops": "Came next before in this session",
    "repeats": "It is among your songs",
    "artists": "By an artist that you heard or named",
    "fresh": "New, and of what you hear",
    "tensor": "Heard at this time of the week by listeners like you",
    "trending": "Among what is heard most now",
    CONTEXT: "It is of what you asked for",
    FURTHER: "Among the most popular of what may be played",
    REPEATS: "Played in this session",
}
SAID: Final = {"like": "liked", "playlist": "added", "listen": "played"}


@dataclass(frozen=True)
class Reason:
    """One sentence and what stands behind it.

    `effect` is by how much the score of `of` falls when the evidence is taken away: the ranker's,
    or, where a heard song is named (`song_id`), that generator's.
    """

    text: str
    kind: str
    of: str
    effect: float
    song_id: str | None = None


@dataclass(frozen=True)
class Named:
    """The heard song with the largest effect on a candidate, and what the listener did with it."""

    song: int
    effect: float
    signal: str = ""


def reasons(
    retrieval: Retrieval,
    ranker: Ranker,
    state: State,
    songs: IntArray,
    rows: FloatArray,
    raised: float,
) -> list[tuple[Reason, ...]]:
    """Return at most two reasons for each song, the weightiest first.

    Parameters
    ----------
    songs, rows
        The songs in question and their features, in the same order.
    raised
        By how much the request raised a song for each part of its context that the song matches.
    """
    falls = evidence(ranker, retrieval.feature_names, rows)
    named = {
        "taste": tastes(retrieval, state, songs),
        **{kind: links(retrieval, state, kind, songs) for kind in LINKED},
    }
    found = []
    for place, song in enumerate(songs):
        order = sorted(falls, key=lambda kind: -falls[kind][place])
        said = asked(retrieval, state, int(song), raised)
        for kind in order:
            if falls[kind][place] > 0 and len(said) < MOST:
                behind = named[kind][place] if kind in named else None
                more = sentence(retrieval, state, int(song), kind, falls[kind][place], behind)
                said += [one for one in more if one.text not in {old.text for old in said}]
        found.append(tuple(said[:MOST]))
    return found


def proposed(retrieval: Retrieval, song: int, sources: Sequence[str]) -> tuple[Reason, ...]:
    """Return what the first of a song's sources that speaks for it says; no score falls without.

    That others skip a song does not speak for it.
    """
    spoken = [name for name in sources if name in PROPOSED][:1]
    if spoken == [FURTHER] and well_known(retrieval, song):
        return (Reason("Among the most popular songs", "source", FURTHER, 0.0),)
    return tuple(Reason(PROPOSED[name], "source", name, 0.0) for name in spoken)


def asked(retrieval: Retrieval, state: State, song: int, raised: float) -> list[Reason]:
    """Return what of the asked context the song is of, where that raised it."""
    if raised <= 0:
        return []
    return [
        Reason(text, kind, "request", raised)
        for kind in (*TAGS, *CODES)
        if (text := for_context(retrieval, state, song, kind)) is not None
    ]


def sentence(
    retrieval: Retrieval, state: State, song: int, kind: str, fall: float, behind: Named | None
) -> list[Reason]:
    """Return what can truly be said of one kind of evidence; nothing where it says nothing."""
    if behind is not None:
        title = title_of(retrieval, behind.song)
        artists = retrieval.songs.names.artists(behind.song)
        if title == title_of(retrieval, song) and artists:
            # Another song of that name.
            title = f"{title} by {artists[0]}"
        words = {
            "transitions": f"Played after {title}",
            "together": f"Played together with {title}",
            "listeners": f"Heard by listeners of {title}",
        }
        text = words.get(kind, f"Because you {SAID.get(behind.signal, 'played')} {title}")
        of = behind.signal or kind
        return [Reason(text, kind, of, behind.effect, str(retrieval.songs.ids[behind.song]))]
    said = SENTENCES[kind](retrieval, state, song) if kind in SENTENCES else None
    return [] if said is None else [Reason(said, kind, "ranker", float(fall))]


def title_of(retrieval: Retrieval, song: int) -> str:
    """Return a song's title, or its id where it has none."""
    return retrieval.songs.names.title(song) or f"song {retrieval.songs.ids[song]}"


def tastes(retrieval: Retrieval, state: State, songs: IntArray) -> list[Named | None]:
    """Return the heard song that raises each candidate most in a signal, None without any.

    Signals are compared in the blend's units.
    """
    best: list[Named | None] = [None] * len(songs)
    most = np.zeros(len(songs))
    blend = retrieval.blend
    for signal, scale in zip(blend.signals, blend.scales, strict=True):
        part = retrieval.generators[signal]
        if signal not in SAID or not isinstance(part, SignalFactors):
            continue
        heard, values = part.observed(state)
        if len(heard) == 0:
            continue
        parts = factor_parts(part.model, heard, values, songs)
        # Nobody is told "because you played" of a song that counts as skipped.
        liked = np.isin(parts.songs, heard[values > 0])
        found = Effects(parts.songs[liked], parts.lost[liked])
        for place, one in enumerate(_largest(state, found, songs)):
            if one is not None and one.effect * scale > most[place]:
                most[place] = one.effect * scale
                best[place] = Named(one.song, one.effect, signal)
    return best


def links(retrieval: Retrieval, state: State, kind: str, songs: IntArray) -> list[Named | None]:
    """Return the seed that raises each candidate most in a neighbour generator."""
    generator = retrieval.generators.get(kind)
    if not isinstance(generator, Neighbours):
        return [None] * len(songs)
    count, decay = generator.params.seeds, generator.params.seed_decay
    seeds = state.seeds(count)
    rests = {int(song): _seeds_without(state, int(song), count) for song in np.unique(seeds)}
    return _largest(state, link_effects(generator.links, seeds, rests, decay, songs), songs)


def _seeds_without(state: State, song: int, count: int) -> IntArray:
    """Return the songs that would be continued from if one had never been heard."""
    kept, known = state.session != song, state.history != song
    # What seeds are made of, and no more: the values beside it stay as they are.
    rest = replace(
        state,
        session=state.session[kept],
        skipped=state.skipped[kept],
        history=state.history[known],
        radio=int(kept[: state.radio].sum()),
    )
    return rest.seeds(count)


def _largest(state: State, found: Effects, songs: IntArray) -> list[Named | None]:
    """Return the song with the largest positive effect on each candidate, but the song itself.

    Nor one that the session skipped or disliked.
    """
    if len(found.songs) == 0:
        return [None] * len(songs)
    refused = np.isin(found.songs, state.session[state.skipped])
    mute = refused[:, None] | (found.songs[:, None] == songs[None, :])
    effects = np.where(mute, -np.inf, found.effects)
    rows = effects.argmax(axis=0)
    return [
        Named(int(found.songs[row]), float(effects[row, i])) if effects[row, i] > 0 else None
        for i, row in enumerate(rows)
    ]
