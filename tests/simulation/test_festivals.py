from datetime import date

import numpy as np
import pandas as pd
import pytest

from features.columns import Event, User
from simulation.festivals import LEAD_DAYS, build_calendar, festival_days, festival_of
from simulation.sizes import SIZES
from simulation.vocabulary import COUNTRY_CODES, FESTIVALS, OCCASIONS, PURPOSES
from tests.simulation.conftest import Written


@pytest.mark.parametrize(
    ("country", "festival", "day"),
    [
        ("IN", "diwali", date(2023, 11, 12)),
        ("IN", "holi", date(2024, 3, 25)),
        ("IN", "eid", date(2024, 4, 11)),
        ("TR", "eid", date(2024, 4, 10)),
        ("ID", "eid", date(2024, 4, 10)),
        ("EG", "eid", date(2024, 4, 10)),
        ("TW", "lunar_new_year", date(2024, 2, 10)),
        ("KR", "lunar_new_year", date(2024, 2, 10)),
        ("ID", "lunar_new_year", date(2024, 2, 10)),
        ("US", "thanksgiving", date(2023, 11, 23)),
        ("US", "halloween", date(2023, 10, 31)),
        ("US", "valentines", date(2024, 2, 14)),
        ("BR", "carnival", date(2024, 2, 13)),
        ("DE", "christmas", date(2023, 12, 25)),
        ("US", "christmas", date(2023, 12, 25)),
        ("GB", "new_year", date(2024, 1, 1)),
    ],
)
def test_festivals_fall_on_their_days(country: str, festival: str, day: date) -> None:
    assert festival_days(country, [2023, 2024])[day] == festival


@pytest.mark.parametrize(
    ("country", "festival"),
    [("TR", "christmas"), ("US", "diwali"), ("GB", "thanksgiving"), ("FR", "lunar_new_year")],
)
def test_festivals_do_not_fall_elsewhere(country: str, festival: str) -> None:
    assert festival not in festival_days(country, [2023, 2024]).values()


@pytest.mark.parametrize(
    ("name", "festival"),
    [
        ("Diwali; Naraka Chaturdashi", "diwali"),
        ("Holi", "holi"),
        ("Bank Holiday", ""),
        ("Labor Thanksgiving Day", ""),
        ("Chinese New Year (observed)", ""),
        ("Coptic Christmas Day", ""),
        ("Alternative holiday for Korean New Year", ""),
        ("Islamic New Year", ""),
    ],
)
def test_names_mean_festivals(name: str, festival: str) -> None:
    assert festival_of(name) == festival


def test_share_of_sessions_rises_to_the_day_and_ends_with_it() -> None:
    calendar = build_calendar(date(2023, 12, 1), date(2023, 12, 31))
    row = COUNTRY_CODES.index("DE")
    at = {day: (date(2023, 12, day) - calendar.first).days for day in (5, 15, 25, 28)}
    share = [calendar.share[row, at[day]] for day in (5, 15, 25)]
    assert share == sorted(share)
    assert share[0] > 0
    assert calendar.occasion[row, at[25]] == OCCASIONS.index("christmas")
    assert calendar.occasion[row, at[28]] == 0
    assert calendar.share[row, at[28]] == 0


def test_every_festival_falls_in_the_large_period_or_is_outside_it_by_the_calendar() -> None:
    size = SIZES["large"]
    calendar = build_calendar(size.start, size.end)
    present = {OCCASIONS[code] for code in np.unique(calendar.occasion)} - {""}
    assert present == set(FESTIVALS)


def test_logged_festivals_are_in_season_for_the_country(written: Written) -> None:
    events = written.events.merge(written.users, on=User.ID)
    festive = events[events[Event.OCCASION].isin(FESTIVALS)]
    assert len(festive) > 500
    shift = pd.to_timedelta(festive[User.UTC_OFFSET], unit="m")
    # A session keeps the occasion it began with, and may run past midnight.
    local = (festive[Event.TS] + shift).groupby(festive[Event.SESSION]).transform("min").dt.date
    for country, rows in festive.groupby(User.COUNTRY):
        days = festival_days(str(country), [2023, 2024])
        for festival, day in zip(rows[Event.OCCASION], local[rows.index], strict=True):
            ahead = [(d - day).days for d, name in days.items() if name == festival]
            assert any(0 <= wait <= LEAD_DAYS.get(festival, 2) for wait in ahead)


def test_nobody_without_christmas_has_christmas_sessions(written: Written) -> None:
    events = written.events.merge(written.users, on=User.ID)
    christmas = events[events[Event.OCCASION] == "christmas"]
    assert "TR" not in set(christmas[User.COUNTRY])
    assert set(written.events[Event.OCCASION].dropna()) <= {*FESTIVALS, *PURPOSES}
