import re

import pytest
import yaml

from features.params import SIGNALS, Modes, Steering, load_params
from features.paths import PROJECT

REAL = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))


def written(tmp_path, change):
    """Write the project's parameters with one change and return the path."""
    content = yaml.safe_load(yaml.safe_dump(REAL))
    change(content)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def setting(dotted, value):
    *parents, leaf = dotted.split(".")

    def change(content):
        for parent in parents:
            content = content[parent]
        content[leaf] = value

    return change


def test_the_projects_own_file_is_valid_and_holds_every_signal():
    params = load_params()
    assert set(params.signals) == set(SIGNALS)
    assert params.phases.gap_minutes >= 30


def test_the_file_states_how_far_wishes_reach_as_old_bundles_take_it():
    assert Modes.model_validate(REAL["modes"]) == Modes()
    assert Steering.model_validate(REAL["steering"]) == Steering()
    for name, section in (("modes", Modes), ("steering", Steering)):
        assert set(REAL[name]) == set(section.model_fields)


def test_likes_weigh_most_and_skips_count_against():
    weights = {name: signal.weight for name, signal in load_params().signals.items()}
    assert max(weights, key=weights.get) == "like"
    assert weights["skip"] < 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("extra", 1),
        ("ranker.rouns", 5),
        ("ranker.weights.loved", 9),
        ("signals.like.halflife", 3),
        ("signals.love", {}),
        ("generators.transitions.window", 4),
        ("source.url", "x"),
        ("phases.gap", 30),
    ],
)
def test_an_unknown_key_is_refused_by_name_and_file(tmp_path, key, value):
    path = written(tmp_path, setting(key, value))
    with pytest.raises(ValueError, match=key.rsplit(".", 1)[-1]) as caught:
        load_params(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("phases.gap_minutes", 29),
        ("phases.gap_minutes", 10**15),
        ("phases.labels_share", 0),
        ("phases.test_share", 1),
        ("phases.as_of", "2024-01-01T00:00:00"),
        ("phases.as_of", "20231226"),
        ("phases.as_of", 20231226),
        ("ingest.max_bad_share", 1.5),
        ("signals.listen.half_life_days", 0),
        ("signals.listen.regularization", -0.1),
        ("signals.listen.factors", 0),
        ("signals.listen.candidates", -1),
        ("signals.listen.half_life_days", 1e7),
        ("generators.transitions.gap_decay", 1.5),
        ("generators.together.seed_decay", 0),
        ("ranker.feature_fraction", 0),
        ("ranker.num_leaves", 1),
        ("ranker.starts.num_leaves", 200_000),
        ("ranker.seed", -1),
        ("ranker.learning_rate", 1.5),
        ("ranker.starts.learning_rate", 1e300),
        ("steering.radio_weight", 1e300),
        ("signals.like.weight", float("nan")),
        ("signals.like.weight", float("inf")),
        ("simulation.seed", -1),
        ("simulation.seed", 2**70),
        ("evaluation.seed", -1),
        ("evaluation.bootstrap", 0),
        ("exploration.temperature", 0.0001),
        ("source.name", "spotify"),
        ("simulation.size", "huge"),
    ],
)
def test_a_value_out_of_range_is_refused_by_key(tmp_path, key, value):
    path = written(tmp_path, setting(key, value))
    with pytest.raises(ValueError, match=key.replace(".", r"\.")):
        load_params(path)


@pytest.mark.parametrize("key", ["phases.gap_minutes", "ranker.seed", "generators.blend"])
def test_a_missing_key_is_refused_by_name(tmp_path, key):
    section, name = key.split(".")
    path = written(tmp_path, lambda content: content[section].pop(name))
    with pytest.raises(ValueError, match=key.replace(".", r"\.")):
        load_params(path)


def test_a_missing_signal_is_refused(tmp_path):
    path = written(tmp_path, lambda content: content["signals"].pop("skip"))
    with pytest.raises(ValueError, match=r"signals: lacks \['skip'\]; add them"):
        load_params(path)


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match=r"params\.yaml is not valid"):
        load_params(path)


def test_what_is_no_yaml_is_refused_with_its_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("source:\n  name: [simulated\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"params\.yaml is no YAML, mend it: (.|\n)*line 2"):
        load_params(path)


def test_parameters_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_params().ranker.rounds = 1


def test_skips_cannot_be_zeros_of_themselves(tmp_path):
    path = written(tmp_path, setting("signals.skip.skip_as", "zero"))
    with pytest.raises(ValueError, match=r"signals\.skip\.skip_as"):
        load_params(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("trending", "generators: trending cannot be switched off; set its `candidates` to 0"),
        ("sessions", "generators: continuations reads what sessions writes; switch both off"),
    ],
)
def test_a_generator_that_others_need_cannot_be_switched_off(tmp_path, name, said):
    path = written(tmp_path, setting(f"generators.{name}.enabled", False))
    with pytest.raises(ValueError, match=re.escape(f"{path} is not valid")) as caught:
        load_params(path)
    assert said in str(caught.value)


def test_the_file_has_the_switch_of_every_generator_that_has_one():
    unswitched = {name for name, section in REAL["generators"].items() if "enabled" not in section}
    assert unswitched == {"trending"}


def test_what_is_at_odds_is_said_together_with_what_is_out_of_range(tmp_path):
    def change(content):
        content["generators"]["trending"]["enabled"] = False
        content["signals"]["skip"]["skip_as"] = "zero"
        content["ranker"]["seed"] = -1

    with pytest.raises(ValueError, match="mend these keys") as caught:
        load_params(written(tmp_path, change))
    keys = [line.strip().partition(":")[0] for line in str(caught.value).splitlines()[1:]]
    assert keys == ["signals", "generators", "ranker.seed"]


def test_sessions_and_what_reads_them_are_switched_off_together(tmp_path):
    def change(content):
        for name in ("sessions", "continuations"):
            content["generators"][name]["enabled"] = False

    assert not load_params(written(tmp_path, change)).generators.sessions.enabled
