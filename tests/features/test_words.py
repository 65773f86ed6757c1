"""Words searched by their bytes agree with a dict, few or many."""

import numpy as np
import pytest

from features import words as module
from features.words import Words

SOME = sorted({"", "a", "ab", "abc", "Zoë", "zoë", "日本", "s0000012", "é"})
ASKED = [*SOME, "b", "abcd", "s00000123", "日", "nobody" * 9]


@pytest.mark.parametrize("few", [0, 1000])
def test_find_agrees_with_a_dict(monkeypatch, few):
    monkeypatch.setattr(module, "FEW", few)
    words = Words.of(SOME)
    table = {word: place for place, word in enumerate(SOME)}
    assert words.find(ASKED).tolist() == [table.get(word, -1) for word in ASKED]
    assert [words.places.get(word) for word in ASKED] == [table.get(word) for word in ASKED]
    assert dict(words.places) == table
    assert words.find([]).tolist() == []
    assert words.find([""]).tolist() == [0]
    assert words.find(np.array(ASKED)).tolist() == words.find(ASKED).tolist()


def test_a_word_that_holds_a_zero_is_another_word(monkeypatch):
    monkeypatch.setattr(module, "FEW", 0)
    words = Words.of(SOME)
    assert words.find(["a", "a\0b", "ab"]).tolist() == [2, -1, 3]
    assert Words.of(["a", "a\0b", "b"]).find(["b", "a\0b", "b\0b"]).tolist() == [2, 1, -1]


def test_places_give_words():
    words = Words.of(SOME)
    assert words.tolist() == SOME
    assert words[2] == SOME[2]
    assert words[np.array([1, 0])].tolist() == [SOME[1], SOME[0]]
    assert Words.of([]).find(["a"]).tolist() == [-1]
