"""Readable made-up names for artists, bands, composers, albums and songs."""

import numpy as np

_SYLLABLES = {
    "en": "bel ash mar low ray wyn tor del ber kin ley dan har vel son fern wick",
    "de": "bren gar wol hild ster mann fel dorn lin kar weis brun heid elk ott",
    "fr": "belle mar lou vien dre cour mont ri gau sel ron eau lise van que",
    "es": "mar san lor del ra vi cas tor men do ra sol ez lu pa nia",
    "pt": "jo ri ma caru bel tei xa mon ra sil lo na gue rei ta",
    "hi": "ra vi sha ni ka mee ar jun dev pri ya an sur raj la ta",
    "ta": "ka ra mu tha lin gam sel van mee na per u mal ni la vel",
    "id": "su ra di wa nu ri a ti ka ya pra ta ma sa lim ba",
    "ko": "ji su min ha neul seo yun ho jae hye dong bin ra on",
    "zh": "li wei xiao mei ling chen yu hao jing tao lan fei shan",
    "tr": "de niz ay la em re can su gul bah ar yil maz er do",
    "ar": "sa mir la na ra him nou ri ya din ha lim fa ris am",
}
_FIRST = (
    "Silver Midnight Golden Broken Quiet Electric Paper Summer Winter Distant Velvet Hidden "
    "Crimson Hollow Neon Gentle Restless Burning Fading Wild Lonely Secret Crystal Blue"
)
_SECOND = (
    "River Heart City Road Sky Letters Garden Mirror Thunder Ocean Lanterns Train Shadow Dream "
    "Horizon Echo Fire Rain Window Morning Stars Bridge Stranger Dance Promise Island Song"
)
_BANDS = "Foxes Satellites Lanterns Wolves Engines Sailors Orchids Strangers Comets Tigers"


def word(language: str, rng: np.random.Generator) -> str:
    """Return one capitalised word of two or three of the language's syllables."""
    count = int(rng.integers(2, 4))
    return "".join(_one(_SYLLABLES[language], rng) for _ in range(count)).capitalize()


def person(language: str, rng: np.random.Generator) -> str:
    """Return a first and a family name."""
    return f"{word(language, rng)} {word(language, rng)}"


def band(language: str, rng: np.random.Generator) -> str:
    """Return the name of a group."""
    return f"{word(language, rng)} {_one(_BANDS, rng)}"


def title(language: str, rng: np.random.Generator, occasion: str = "") -> str:
    """Return a song or album title; English words for English, coined ones elsewhere."""
    if occasion:
        return f"{word(language, rng)} {occasion.replace('_', ' ').title()}"
    if language == "en":
        return f"{_one(_FIRST, rng)} {_one(_SECOND, rng)}"
    return " ".join(word(language, rng) for _ in range(int(rng.integers(1, 4))))


def _one(words: str, rng: np.random.Generator) -> str:
    choices = words.split()
    return choices[int(rng.integers(len(choices)))]
