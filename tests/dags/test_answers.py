import pytest
import yaml

from dags.answers import assignments, refuse_unknown
from training.set_params import parsed

EMPTY = {"as_of": None, "to_the_end": False, "source": None, "path": None, "force": []}


def test_an_empty_form_changes_nothing():
    assert assignments(EMPTY) == []


def test_source_and_path_go_together():
    answers = {**EMPTY, "source": "files", "path": "in/plays and more"}
    assert assignments(answers) == ["source.name=files", 'source.path="in/plays and more"']
    assert assignments({**EMPTY, "path": "other"}) == ['source.path="other"']
    with pytest.raises(ValueError, match="without its `path`"):
        assignments({**EMPTY, "source": "30music"})


@pytest.mark.parametrize(
    "path", ["in/Music #1", "2019", "a: b", "null", "🎵 m", 'say "ah"', "true"]
)
def test_a_path_stays_text_when_read_as_yaml(path):
    [change] = assignments({**EMPTY, "path": path})
    assert parsed(change.partition("=")[2]) == path


def test_as_of_stays_text_when_read_as_yaml():
    [change] = assignments({**EMPTY, "as_of": "2024-02-01T00:00:00+00:00"})
    key, _, value = change.partition("=")
    assert key == "phases.as_of"
    assert yaml.safe_load(value) == "2024-02-01T00:00:00+00:00"


def test_to_the_end_forgets_as_of():
    assert assignments({**EMPTY, "to_the_end": True}) == ["phases.as_of=null"]
    with pytest.raises(ValueError, match="choose one"):
        assignments({**EMPTY, "to_the_end": True, "as_of": "2024-02-01T00:00:00Z"})


def test_answers_to_what_the_form_does_not_ask_are_refused():
    refuse_unknown({"version": "v1"}, {"version": None, "bundle": None})
    with pytest.raises(ValueError, match=r"no \['rollback'\]; it has \['bundle', 'version'\]"):
        refuse_unknown({"rollback": "v1"}, {"version": None, "bundle": None})
