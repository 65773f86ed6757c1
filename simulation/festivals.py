"""When festivals fall, country by country, from the `holidays` package."""

import re
from dataclasses import dataclass
from datetime import date, timedelta

import holidays
import numpy as np

from simulation.draws import Array
from simulation.vocabulary import COUNTRY_CODES, FESTIVALS, OCCASIONS

# Names as the package gives them in English; days in lieu and bridges are not the festival.
_NAMES = {
    "christmas": r"^Christmas( Day| Eve)?$",
    "diwali": r"\b(Diwali|Deepavali)\b",
    "eid": r"^Eid al-(Fitr|Adha)",
    "holi": r"^Holi$",
    "lunar_new_year": r"^(Lunar|Chinese|Korean) New Year('s Eve)?$",
    "new_year": r"^New Year's (Day|Eve)$",
    "halloween": r"^Halloween$",
    "thanksgiving": r"^Thanksgiving( Day)?$",
    "carnival": r"^Carnival",
    "easter": r"^(Easter Sunday|Good Friday)$",
    "valentines": r"^Valentine's Day$",
}
# Days before a festival on which its songs are already played.
LEAD_DAYS = {"christmas": 24, "diwali": 5, "eid": 4, "holi": 3, "lunar_new_year": 8, "halloween": 6}
DEFAULT_LEAD_DAYS = 2
PEAK_SHARE = 0.5
_LEFT_OUT = ("observed", "Joint Holiday", "Alternative", "Day off", "substitut", "Coptic")
_UNUSED_CATEGORIES = {"school", "bank", "workday", "half_day"}


def festival_days(country: str, years: list[int]) -> dict[date, str]:
    """Return the festival that falls on each day of these years in a country (ISO code)."""
    kind = getattr(holidays, country)
    categories = [c for c in kind.supported_categories if c not in _UNUSED_CATEGORIES]
    language = "en_US" if "en_US" in kind.supported_languages else None
    calendar = holidays.country_holidays(
        country, years=years, categories=categories, language=language
    )
    named = {day: festival_of(name) for day, name in calendar.items()}
    return {day: festival for day, festival in named.items() if festival}


def festival_of(name: str) -> str:
    """Return which of `FESTIVALS` a holiday's name means, or "" if none."""
    for single in name.split("; "):
        if any(part in single for part in _LEFT_OUT):
            continue
        for festival in FESTIVALS:
            if re.search(_NAMES[festival], single):
                return festival
    return ""


@dataclass(frozen=True)
class Calendar:
    """For every country and local day: the festival ahead, and its share of sessions.

    Attributes
    ----------
    first : date
        The day of column 0.
    occasion : array (countries, days)
        Index into `OCCASIONS`, 0 if none.
    share : array (countries, days)
        Probability that a session of that day is for the festival.
    """

    first: date
    occasion: Array
    share: Array


def build_calendar(start: date, end: date) -> Calendar:
    """Lay the festivals out for the local days around [start, end)."""
    first = start - timedelta(days=1)
    days = (end - start).days + 4
    occasion = np.zeros((len(COUNTRY_CODES), days), dtype=np.int64)
    share = np.zeros((len(COUNTRY_CODES), days))
    years = list(range(first.year, end.year + 2))
    for row, country in enumerate(COUNTRY_CODES):
        for day, festival in sorted(festival_days(country, years).items()):
            lead = LEAD_DAYS.get(festival, DEFAULT_LEAD_DAYS)
            for before in range(lead + 1):
                column = (day - first).days - before
                weight = PEAK_SHARE * np.exp(-2.0 * before / lead)
                if 0 <= column < days and weight > share[row, column]:
                    occasion[row, column] = OCCASIONS.index(festival)
                    share[row, column] = weight
    return Calendar(first, occasion, share)
