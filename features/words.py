"""Many strings in little memory: sorted, of fixed width, searched instead of hashed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.compiled import places_in_text, places_of_words

# Below, a dict of all words costs little and answers fastest.
FEW: Final = 20_000
# One word of so many is looked at first.
STEP: Final = 256


@dataclass(frozen=True)
class Words:
    """Strings as UTF-8 of a fixed width, ascending and unique; may be memory-mapped.

    Indexing returns `str` for a place, an array of strings for an array of places.
    """

    keys: NDArray[np.bytes_]

    @classmethod
    def of(cls, words: Sequence[str] | NDArray[Any]) -> "Words":
        """Take strings in ascending order."""
        encoded = [str(word).encode() for word in words]
        return cls(np.array(encoded, dtype=np.bytes_) if encoded else np.empty(0, "S1"))

    def __len__(self) -> int:
        """Return the number of words."""
        return len(self.keys)

    def __getitem__(self, place: Any) -> Any:
        """Return the word at a place, or an array of words."""
        found = self.keys[place]
        if isinstance(found, bytes):
            return found.decode()
        words = [word.decode() for word in found.ravel().tolist()]
        return np.array(words, dtype=np.str_).reshape(found.shape)

    def __iter__(self) -> Iterator[str]:
        """Yield the words in order."""
        return (word.decode() for word in self.keys.tolist())

    def tolist(self) -> list[str]:
        """Return all words."""
        return list(self)

    def find(self, words: Sequence[str]) -> NDArray[np.int32]:
        """Return each word's place, -1 where it is not among them."""
        if not len(words) or not len(self.keys):
            return np.full(len(words), -1, dtype=np.int32)
        if len(self.keys) <= FEW:
            get = self.places.get
            return np.array([get(word, -1) for word in words], dtype=np.int32)
        text = "\0".join(words).encode()
        if text.count(0) < len(words):
            letters = np.frombuffer(text, np.uint8)
            found: NDArray[np.int32] = places_in_text(*self._searched, STEP, letters, len(words))
            return found
        # Some word holds itself what parts them in the text.
        wanted = np.array([word.encode() for word in words], dtype=np.bytes_)
        return np.asarray(places_of_words(*self._searched, STEP, _bytes(wanted)), np.int32)

    @cached_property
    def _searched(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """All words as bytes, and every `STEP`-th of them by themselves."""
        words = _bytes(self.keys)
        return words, words[::STEP].copy()

    def chosen(self, places: NDArray[Any]) -> "Chosen":
        """Return the words at some places, to be decoded when somebody reads them."""
        return Chosen(self, places)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Each word's place: a dict of few words, else a view that searches."""
        if len(self.keys) <= FEW:
            return {word: place for place, word in enumerate(self)}
        return Places(self)


@dataclass(frozen=True)
class Chosen(Sequence[str]):
    """The words at some places."""

    words: Words
    at: NDArray[Any]

    def __getitem__(self, number: Any) -> Any:
        """Return one of them, or several as an array of strings."""
        return self.words[self.at[number]]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.at)

    def __iter__(self) -> Iterator[str]:
        """Yield them in order."""
        return (word.decode() for word in self.words.keys[self.at].tolist())


def _bytes(words: NDArray[np.bytes_]) -> NDArray[np.uint8]:
    """Return words as their bytes, one row a word."""
    return np.ascontiguousarray(words).view(np.uint8).reshape(len(words), words.dtype.itemsize)


@dataclass(frozen=True)
class Places(Mapping[str, int]):
    """The places of words as a mapping that holds nothing itself."""

    words: Words

    def __getitem__(self, word: str) -> int:
        """Return the word's place."""
        place = int(self.words.find([word])[0])
        if place < 0:
            raise KeyError(word)
        return place

    def __len__(self) -> int:
        """Return the number of words."""
        return len(self.words)

    def __iter__(self) -> Iterator[str]:
        """Yield the words in order."""
        return iter(self.words)
