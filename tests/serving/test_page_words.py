"""The page's words for where a song comes from, read from its text."""

import re

from features.params import Generators, load_params
from serving.candidates import CONTEXT, FURTHER, REPEATS
from serving.retrieval import BLEND
from serving.routes import WEB

PARAMS = load_params()


def sources() -> dict[str, str]:
    """Return the words of `SOURCES` in view.js by the source's name."""
    found = re.search(r"const SOURCES = \{(.*?)\};", (WEB / "view.js").read_text(), re.DOTALL)
    assert found is not None
    return dict(re.findall(r'(\w+): "([^"]+)"', found[1]))


def test_whatever_proposes_a_song_has_words_and_nothing_else() -> None:
    signals = {str(name) for name, signal in PARAMS.signals.items() if signal.candidates}
    sections = {name: getattr(PARAMS.generators, name) for name in Generators.model_fields}
    # Those that are off, too: whoever turns one on reads its words.
    others = {name for name, section in sections.items() if getattr(section, "candidates", 0)}
    assert BLEND in others
    assert set(sources()) == signals | others | {CONTEXT, FURTHER, REPEATS}


def test_no_two_sources_have_the_same_words() -> None:
    words = list(sources().values())
    assert len(set(words)) == len(words)
