import pytest

from features.paths import PROJECT
from training.stage_deps import code_of, differences, import_graph, is_code, mended

DVC_YAML = """\
# Kept.
stages:
  phases:
    cmd: python -m training.phases --cut ${item.cut}
    # Kept too.
    params: [phases]
    deps: [data/lake, training/gone.py, "data/${item.cut}"]
    outs: [data/phases.json]
  other:
    cmd: python -m training.other
    deps: [
      data/lake,
      features/a.py]

plots:
  - One: {x: a}
"""
CODE = {
    "python -m training.phases --cut ${item.cut}": ("features/a.py", "training/phases.py"),
    "python -m training.other": ("features/a.py",),
}


@pytest.fixture(scope="module")
def graph():
    return import_graph()


def test_what_a_stage_lacks_and_names_in_vain_is_told():
    assert differences(DVC_YAML, CODE.__getitem__) == [
        "phases: names training/gone.py, which it does not read",
        "phases: reads features/a.py, which it does not name",
        "phases: reads training/phases.py, which it does not name",
    ]


def test_mending_changes_the_code_of_a_stage_and_nothing_else():
    before = '    deps: [data/lake, training/gone.py, "data/${item.cut}"]\n'
    after = (
        "    deps: [\n"
        '      data/lake, "data/${item.cut}",\n'
        "      features/a.py,\n"
        "      training/phases.py]\n"
    )
    assert mended(DVC_YAML, CODE.__getitem__) == DVC_YAML.replace(before, after)


def test_what_is_mended_stays_as_it_is():
    once = mended(DVC_YAML, CODE.__getitem__)
    assert differences(once, CODE.__getitem__) == []
    assert mended(once, CODE.__getitem__) == once


def test_code_is_told_from_data_by_its_package():
    assert is_code("features/sources")
    assert not is_code("data/features")


def test_a_package_that_does_something_on_import_is_read(graph):
    assert "features/__init__.py" in code_of("python -m training.phases", graph)
    assert "training/__init__.py" in code_of("python -m training.phases", graph)
    # This one holds a docstring only.
    assert "features/sources/__init__.py" not in code_of("python -m training.phases", graph)


def test_the_feature_store_reads_its_definitions(graph):
    assert "features/repo" in code_of("python -m training.package --cut test", graph)
    assert "features/repo" not in code_of("python -m training.factors", graph)


def test_the_simulator_is_one_folder_the_columns_and_units_of_time(graph):
    code = code_of("python -m simulation --size tiny", graph)
    assert code == (
        "features/__init__.py",
        "features/columns.py",
        "features/mistakes.py",
        "features/times.py",
        "simulation",
    )


def test_a_command_without_a_module_of_ours_is_refused(graph):
    with pytest.raises(ValueError, match="runs no module"):
        code_of("python -m json.tool", graph)
    with pytest.raises(ValueError, match="runs no module"):
        code_of("echo hello", graph)


def test_all_code_named_exists(graph):
    for module in ("training.report", "features.ingest", "simulation"):
        for path in code_of(f"python -m {module}", graph):
            assert (PROJECT / path).exists()
