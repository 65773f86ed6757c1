"""Rows read straight from the online store are those of Feast's own answers."""

import gc
import shutil
from array import array
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from feast import FeatureStore
from feast.protos.feast.types import Value_pb2 as protos
from feast.type_map import NULL_TIMESTAMP_INT_VALUE, feast_value_type_to_python_type

from features import store
from features.columns import Song, User
from features.online import InFile, online
from features.online_rows import _parsed, online_row
from features.registered import references, register
from tests.features.test_store import SONG_IDS, TIMES, USER_IDS, data  # noqa: F401 - a fixture

Value = protos.Value
# Around the lengths at which protobuf takes one byte more to write a length.
LENGTHS = [0, 1, 2, 30, 31, 32, 33, 4094, 4095, 4096, 4097, 9000]
SINGLE: list[dict[str, Any]] = [
    {},
    *({"string_val": word} for word in ("", "a", "Zoë", "x" * 200, "\x82\x01")),
    *({"int64_val": number} for number in (0, -1, 2**62)),
    *({"double_val": number} for number in (0.0, -1.5, float("inf"))),
    {"float_val": 0.1},
    {"bool_val": False},
    {"bytes_val": b"\x82\x01"},
    *({"unix_timestamp_val": s} for s in (0, -1, 1_700_000_000, NULL_TIMESTAMP_INT_VALUE)),
    {"unix_timestamp_list_val": protos.Int64List(val=[1, NULL_TIMESTAMP_INT_VALUE])},
    {"double_list_val": protos.DoubleList(val=[0.5, 1.5])},
]


def in_lists(value: Any) -> Any:
    return value.tolist() if isinstance(value, array) else value


@pytest.mark.parametrize("given", SINGLE)
def test_a_value_is_read_as_feast_reads_it(given: dict[str, Any]) -> None:
    value = Value(**given)
    found, expected = in_lists(_parsed(value.SerializeToString())), None
    if given:
        expected = feast_value_type_to_python_type(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(
    ("kind", "of", "make"),
    [
        ("float_list_val", protos.FloatList, lambda i: i / 7),
        ("int64_list_val", protos.Int64List, lambda i: (-1) ** i * i**4),
        ("string_list_val", protos.StringList, lambda i: f"é{i}"),
    ],
)
def test_a_list_is_read_as_feast_reads_it(length: int, kind: str, of: Any, make: Any) -> None:
    value = Value(**{kind: of(val=[make(i) for i in range(length)])})
    found = _parsed(value.SerializeToString())
    assert in_lists(found) == feast_value_type_to_python_type(value)
    assert isinstance(found, array) == (kind == "float_list_val")


def test_numbers_that_are_none_stay_so() -> None:
    value = Value(float_list_val=protos.FloatList(val=[float("nan"), float("-inf")]))
    assert str(_parsed(value.SerializeToString()).tolist()) == "[nan, -inf]"


@pytest.mark.parametrize(
    ("owner", "ids"), [(User.ID, [*USER_IDS, "nobody", "Zoë", ""]), (Song.ID, SONG_IDS)]
)
def test_rows_are_those_of_feast(data: Any, owner: str, ids: list[str]) -> None:  # noqa: F811
    store.materialize(TIMES[-1])
    place = online()
    with place.opened(place.generation(), register) as config:
        feast = FeatureStore(config=config)
        asked, lists = references(feast, owner)
        answers = feast.get_online_features(asked, [{owner: key} for key in ids]).to_dict()
    of = {User.ID: store.online_user_rows, Song.ID: store.online_song_rows}[owner]
    for number, row in enumerate(of(ids)):
        expected = {name: values[number] for name, values in answers.items()}
        # Feast says None where nothing is known; of a list, a row says that it is empty.
        expected |= {name: expected[name] or [] for name in lists}
        # As text: what is not a number is not even equal to itself.
        assert {k: str(v) for k, v in row.items()} == {k: str(expected[k]) for k in row}
        single = online_row(owner, ids[number])
        assert {k: str(in_lists(v)) for k, v in single.items()} == {k: str(row[k]) for k in row}


def test_a_request_reads_lists_of_fractions_as_arrays(data: Any) -> None:  # noqa: F811
    store.materialize(TIMES[-1])
    row = store.online_user_row("u1")
    assert isinstance(row["artist_shares"], array)
    assert isinstance(store.online_user_rows(["u1"])[0]["artist_shares"], list)


def test_a_replaced_file_gives_its_space_back(data: Any) -> None:  # noqa: F811
    """Of the files that were replaced, at most the last is held open: its readers may go on."""
    store.materialize(TIMES[-1])
    place = online()
    assert isinstance(place, InFile)

    def copied(config: Any) -> None:
        # As by another process: the connections of Feast's own writing stay open in this one.
        shutil.copy(place.path, config.online_store.path)
        shutil.copy(place.registry, config.registry.path)

    def replaced() -> None:
        place.replace(copied)

    replaced()
    store.online_user_row("u1")
    before = len(deleted_open())
    # The service's collector looks at nothing that was there at the start.
    gc.disable()
    try:
        for _ in range(4):
            replaced()
            store.online_user_row("u1")
            assert len(deleted_open()) <= before + 1
    finally:
        gc.enable()


def deleted_open() -> list[str]:
    found = []
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(handle.readlink()))
    return [target for target in found if target.endswith("online.db (deleted)")]


def test_what_feast_writes_into_the_file_in_use_is_read(data: Any) -> None:  # noqa: F811
    store.materialize(TIMES[0])
    before = [store.online_user_row(user) for user in USER_IDS]
    place = online()
    with place.opened(place.generation(), register) as config:
        # As `feast materialize` does, unlike `store.materialize`.
        FeatureStore(config=config).materialize(TIMES[0], TIMES[-1])
    after = [store.online_user_row(user) for user in USER_IDS]
    assert str(before) != str(after)
    store.materialize(TIMES[-1])
    assert str(after) == str([store.online_user_row(user) for user in USER_IDS])
