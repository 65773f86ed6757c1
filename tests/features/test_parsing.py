"""Times and truths in texts: what one row says is no concern of the next."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from features.parsing import (
    TEXT,
    TEXTS,
    TIME,
    TRUTH,
    WHOLE,
    _time,
    parse,
    parse_date,
    parse_year,
)

MOMENTS = {
    "2024-03-01T05:30:00+05:30": datetime(2024, 3, 1, tzinfo=UTC),
    "2024-03-01T00:00:00": datetime(2024, 3, 1, tzinfo=UTC),
    "2024-03-01 00:00:00.5": datetime(2024, 3, 1, microsecond=500_000, tzinfo=UTC),
    "2024-02-29T19:00:00-0500": datetime(2024, 3, 1, tzinfo=UTC),
    "2024-03-01T10": datetime(2024, 3, 1, 10, tzinfo=UTC),
    "2024-03-01": datetime(2024, 3, 1, tzinfo=UTC),
    "20240301T000000": datetime(2024, 3, 1, tzinfo=UTC),
    " 2024-03-01 01:00 ": datetime(2024, 3, 1, 1, tzinfo=UTC),
    "2024-03-01T00:00:00Z": datetime(2024, 3, 1, tzinfo=UTC),
    "2024/03/01 02:00:00": datetime(2024, 3, 1, 2, tzinfo=UTC),
    "2500-01-01T00:00:00": datetime(2500, 1, 1, tzinfo=UTC),
}


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_a_moment_beyond_the_years_of_python_is_none_and_costs_no_other(unit):
    # A cast to microseconds would wrap the ends around.
    raw = pa.array([2**62, -(2**62), 0], pa.timestamp(unit))
    assert parse(raw, TIME).to_pylist() == [None, None, datetime(1970, 1, 1, tzinfo=UTC)]


@pytest.mark.parametrize("dtype", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("before", [*MOMENTS, None, "yesterdayish"])
def test_a_time_means_the_same_after_any_other(dtype, before):
    texts = [text for other in MOMENTS for text in (before, other)]
    found = _time(pa.array(texts, dtype)).to_pylist()
    assert found[1::2] == list(MOMENTS.values())
    assert found[::2] == [MOMENTS.get(before)] * len(MOMENTS)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-01 18:00:00 UTC", datetime(2024, 5, 1, 18, tzinfo=UTC)),
        (" 2024-05-01 18:00:00.25 utc ", datetime(2024, 5, 1, 18, 0, 0, 250_000, tzinfo=UTC)),
        ("2024-05-01t18:00:00z", datetime(2024, 5, 1, 18, tzinfo=UTC)),
        ("2024-05-01t18:00:00+02:00", datetime(2024, 5, 1, 16, tzinfo=UTC)),
        ("2300-05-01 18:00:00 UTC", datetime(2300, 5, 1, 18, tzinfo=UTC)),
        ("2024-05-01 18:00:00+02:00 UTC", None),
        ("1714586400 UTC", None),
        ("5 z", None),
        ("UTC", None),
    ],
)
@pytest.mark.parametrize("dtype", [pa.string(), pa.large_string()])
def test_times_as_bigquery_and_others_spell_them(dtype, text, moment):
    beside = "2024-05-01T18:00:00+02:00"
    times = parse(pa.array([beside, text, beside, None], dtype), TIME).to_pylist()
    known = datetime(2024, 5, 1, 16, tzinfo=UTC)
    assert times == [known, moment, known, None]


@pytest.mark.parametrize("word", ["now", "today"])
def test_words_for_the_moment_of_the_import_are_no_times(word):
    times = parse(pa.array(["2024-05-01", word, None]), TIME)
    assert times.to_pylist() == [datetime(2024, 5, 1, tzinfo=UTC), None, None]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ([True, None, False], [True, None, False]),
        (
            ["true", " no".strip(), "YES", "0", "maybe", None],
            [True, False, True, False, None, None],
        ),
        ([1, 0, 2, None], [True, False, None, None]),
        ([1.0, 0.0, 0.5], [True, False, None]),
    ],
)
def test_truths_are_read_from_words_and_numbers(raw, expected):
    assert parse(pa.array(raw), TRUTH).to_pylist() == expected


def test_one_odd_id_changes_no_other():
    ids = pa.array([7.0, 1e20, None, float("inf"), 0.5, 12.0])
    assert parse(ids, TEXT).to_pylist() == ["7", "1e+20", None, "inf", "0.5", "12"]


@pytest.mark.parametrize(
    "kind", [pa.decimal128(4, 2), pa.decimal128(38, 10), pa.decimal256(76, 3), pa.decimal64(4, 2)]
)
def test_whole_ids_in_decimals_are_those_of_whole_numbers(kind):
    ids = pa.array([Decimal(0), Decimal(12), None, Decimal("0.5"), Decimal(-3)], kind)
    spelt = str(ids[3].as_py())
    assert parse(ids, TEXT).to_pylist() == ["0", "12", None, spelt, "-3"]


def test_one_unsigned_number_too_large_costs_no_other():
    numbers = pa.array([2**63 - 1, 2**63, None, 2**64 - 1, 0], pa.uint64())
    assert parse(numbers, WHOLE).to_pylist() == [2**63 - 1, None, None, None, 0]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (["a| b", "|", "", None], [["a", "b"], [], [], None]),
        ([["a", " b "], ["", " "], [], None], [["a", "b"], [], [], None]),
        ([[None, "a"], ["|"]], [["a"], ["|"]]),
        # As Pandas and JSON spell lists; the last two are a band and nothing that can be read.
        (
            ["['a', \" b|c \"]", '["a"]', "[]", "[so]|b", "['a', 1, 'b']"],
            [["a", "b|c"], ["a"], [], ["[so]", "b"], None],
        ),
        # As NumPy does, without commas and over several lines; with absent words; two in one.
        (
            ["['a b' 'c'\n 'd']", "['a',\n'b']", "['a', nan, None 'b']", "[None]", "['a''b']"],
            [["a b", "c", "d"], ["a", "b"], ["a", "b"], [], None],
        ),
        (
            [
                r"""['it\'s' "o'k"]""",
                "['a' 'b' ... 'c']",
                "['68 comeback]",
                "[nana]",
                "[nan|x nan]",
            ],
            [["it's", "o'k"], None, ["['68 comeback]"], ["[nana]"], ["[nan", "x nan]"]],
        ),
        # As JSON writes an emoji, and a half of one.
        ([r'["happy \ud83d\ude00", "b"]', r'["\ud83d"]'], [["happy \U0001f600", "b"], None]),
    ],
)
def test_lists_hold_no_blank_texts(raw, expected):
    assert parse(pa.array(raw), TEXTS).to_pylist() == expected
    assert parse(pa.array(raw)[1:], TEXTS).to_pylist() == expected[1:]


@pytest.mark.parametrize("inside", ["{['b']}", "{[]: 1}", "-" * 60_000 + "1", "(" * 300])
def test_a_list_that_python_cannot_read_costs_no_other(inside):
    texts = pa.array([f"['a', {inside}, 'c']", "['a']"])
    assert parse(texts, TEXTS).to_pylist() == [None, ["a"]]


def test_a_word_that_stands_twice_in_a_list_counts_once():
    raw = pa.array(["rock|pop| rock", "pop|rock", None, "", "jazz|jazz"])
    expected = [["rock", "pop"], ["pop", "rock"], None, [], ["jazz"]]
    assert parse(raw, TEXTS).to_pylist() == expected


def test_what_lies_behind_a_null_list_is_no_ones():
    fixed = pa.array([None, ["a", " "]], pa.list_(pa.string(), 2))
    assert parse(fixed, TEXTS).to_pylist() == [None, ["a"]]
    whole = pa.array([["x", "y"], ["a"], [""]])
    masked = pa.ListArray.from_arrays(
        whole.offsets, whole.values, mask=pa.array([True, False, False])
    )
    assert parse(masked, TEXTS).to_pylist() == [None, ["a"], []]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (["2019", "20190501", "2019-05-01", "2019.0", None], [1, 5, 5, 1, None]),
        ([2019, 20190501, None], [1, 5, None]),
        ([2019.0, 20190501.0], [1, 5]),
    ],
)
def test_years_and_days_of_songs_are_dates(raw, expected):
    dates = [month and datetime(2019, month, 1, tzinfo=UTC) for month in expected]
    assert parse_date(pa.array(raw)).to_pylist() == dates


@pytest.mark.parametrize(
    ("raw", "years"),
    [
        (["2019", "2019-06-14", "2019-06", "1956-02-30", "20190614", None], None),
        ([date(2019, 6, 14), None], [2019, None]),
        ([2019, 1556668800, None], [2019, 1556668800, None]),
        ([20190614, 20191301, 0], [2019, 20191301, 0]),
        ([2019.0, None], [2019, None]),
    ],
)
def test_a_year_is_read_from_a_date_and_no_number_is_taken_for_one(raw, years):
    found = parse_year(pa.array(raw)).to_pylist()
    assert found == (years or [2019, 2019, 2019, None, 2019, None])


@pytest.mark.parametrize("raw", [["1556668800"], [1556668800.5], [0], ["20191301"], ["soon"]])
def test_other_dates_of_songs_are_times_like_any(raw):
    assert parse_date(pa.array(raw)) == parse(pa.array(raw), TIME)
