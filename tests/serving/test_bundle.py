"""A bundle that is damaged, or made for other code, is refused with what to do about it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from features.params import SIGNALS
from features.query import Query
from serving.bundle import blend, index_factors, load_factors, load_retrieval
from serving.fallback import prepared_with
from serving.files import index_file
from serving.fold_in import FactorModel
from serving.generators import SignalFactors
from serving.layout import latest, save_factors
from serving.manifest import MANIFEST, BundleError, read_manifest
from serving.recommender import Recommender
from serving.retrieval import BLEND
from tests.serving.conftest import AS_OF, SONGS, write_bundle, write_manifest

FILES = ("songs.npz", "factors_like.npz", "sessions.npz", "ranker.txt", "settings.json")


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as refused:
        Recommender.load(folder)
    return str(refused.value)


def rewrite(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_whole_bundle_loads(bundle):
    recommender = Recommender.load(bundle)
    assert recommender.version == "test-1"
    assert len(recommender.retrieval.songs) == SONGS


def test_the_same_training_writes_the_same_bundle(bundle, tmp_path):
    again = write_bundle(tmp_path / "again")
    assert read_manifest(again)["checksums"] == read_manifest(bundle)["checksums"]


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_found(copy_bundle, name):
    folder = copy_bundle("flipped")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    message = refusal(folder)
    assert str(folder) in message
    assert f"['{name}'] missing or changed" in message
    assert "deploy it again" in message


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(copy_bundle, name):
    folder = copy_bundle("missing")
    (folder / name).unlink()
    assert f"['{name}'] missing or changed" in refusal(folder)


def test_a_file_too_many_is_found(copy_bundle):
    folder = copy_bundle("extra")
    (folder / "factors_love.npz").write_bytes(b"")
    assert "factors_love.npz" in refusal(folder)


def test_another_format_is_refused(copy_bundle):
    folder = copy_bundle("format")
    rewrite(folder / MANIFEST, format=99)
    message = refusal(folder)
    assert "format 99" in message
    assert "train again" in message


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff\xfe", b"[]", b"null"])
def test_a_damaged_manifest_is_refused(copy_bundle, content):
    folder = copy_bundle("manifest")
    (folder / MANIFEST).write_bytes(content)
    message = refusal(folder)
    assert str(folder / MANIFEST) in message
    assert "deploy the bundle again" in message


def test_a_missing_bundle_says_how_to_get_one(tmp_path):
    message = refusal(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in message
    assert "make pipeline" in message


@pytest.mark.parametrize("name", ["ranker", "starts", "p_like"])
@pytest.mark.parametrize("fault", ["renamed", "reordered", "fewer"])
def test_a_booster_of_other_features_is_refused(copy_bundle, name, fault):
    folder = copy_bundle("features")
    names = list(load_retrieval(folder).feature_names)
    if fault == "renamed":
        names[-1] = "tomorrows_feature"
    elif fault == "reordered":
        names = names[::-1]
    else:
        names = names[:-1]
    random = np.random.default_rng(0)
    rows = lightgbm.Dataset(random.random((60, len(names))), np.arange(60), feature_name=names)
    booster = lightgbm.train({"verbose": -1, "num_threads": 1}, rows, num_boost_round=1)
    booster.save_model(folder / f"{name}.txt")
    write_manifest(folder, "features")
    message = refusal(folder)
    assert f"{folder / name}.txt" in message
    assert "dvc repro" in message
    assert fault != "renamed" or "tomorrows_feature" in message


def test_a_bundle_without_a_signal_still_answers(copy_bundle):
    folder = copy_bundle("fewer")
    full = load_retrieval(folder)
    (folder / "factors_playlist.npz").unlink()
    left = load_retrieval(folder)
    assert set(full.names) - set(left.names) == {"playlist"}
    assert left.blend.signals == tuple(s for s in SIGNALS if s != "playlist")


def test_a_blend_that_is_switched_off_is_no_generator(copy_bundle):
    folder = copy_bundle("unblended")
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    settings["generators"]["blend"]["enabled"] = False
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    found = load_retrieval(folder)
    assert found.blend.stacked.shape[1] == 0
    assert set(load_retrieval(copy_bundle("blended")).names) - set(found.names) == {BLEND}
    assert BLEND not in found.quota
    assert not [name for name in found.feature_names if name.startswith(BLEND)]
    # What signals weigh beside each other is still told to the reasons.
    assert found.blend.signals == SIGNALS
    assert all(found.blend.scales)
    broken = replace(found, generators={**found.generators, "listen": None})
    recommender = replace(Recommender.load(copy_bundle("whole")), retrieval=broken)
    assert prepared_with(recommender, Query(ts=AS_OF), 5)[1] == ("retrieval.listen",)


def test_latest_keeps_the_last_entries_of_each_row():
    matrix = csr_matrix(np.array([[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]]))
    expected = [[0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]]
    np.testing.assert_array_equal(latest(matrix, 2).toarray(), expected)


def test_the_blend_is_the_weighted_sum_of_scores_in_units_of_their_spread():
    random = np.random.default_rng(2)
    known = np.array([True, True, True, False])
    parts, vectors = {}, {}
    for signal, width, spread in (("like", 2, 0.5), ("skip", 3, 4.0)):
        factors = (random.normal(size=(4, width)) * known[:, None]).astype(np.float32)
        parts[signal] = SignalFactors(signal, FactorModel(factors, known, 0.1, 1.0, spread))
        vectors[signal] = random.normal(size=width).astype(np.float32)
    like, skip = (parts[s].model.item_factors[:3] @ vectors[s] for s in ("like", "skip"))
    stacked = blend(parts, {"like": 3.0, "skip": -2.0}, 4).stacked
    found = stacked @ np.concatenate([vectors["like"], vectors["skip"]])
    np.testing.assert_allclose(found[:3], like * 3 / 0.5 - skip * 2 / 4, rtol=1e-4)


def test_factors_keep_how_listeners_are_folded_in_and_older_files_take_the_defaults(tmp_path):
    random = np.random.default_rng(1)
    rows = random.normal(size=(5, 3)).astype(np.float32)
    model = FactorModel(rows, np.ones(5, np.bool_), 0.1, 2.0, 1.5, 0.5, 7.0, 0.25)
    save_factors(tmp_path / "new.npz", model)
    found = load_factors(tmp_path / "new.npz")
    assert (found.exponent, found.offset, found.skip_weight) == (0.5, 7.0, 0.25)
    ridge = 0.1 * (4 + 7.0) ** 0.5 * np.eye(3)
    np.testing.assert_allclose(found.regularised(4), rows.T @ rows + ridge, rtol=1e-5, atol=1e-6)
    with np.load(tmp_path / "new.npz") as stored:
        gone = ("exponent", "offset", "skip_weight")
        np.savez(tmp_path / "old.npz", **{n: stored[n] for n in stored if n not in gone})
    old = load_factors(tmp_path / "old.npz")
    # The very matrix of the file, with nothing worked out per request.
    assert old.regularised(4) is old.gram
    np.testing.assert_array_equal(old.gram, model.gram)


def test_a_bundle_from_before_the_models_of_time_has_them_off(bundle, tmp_path):
    folder = shutil.copytree(bundle, tmp_path / "older")
    settings = json.loads((folder / "settings.json").read_text())
    for name in ("dayparts", "tensor"):
        settings["generators"].pop(name, None)
    (folder / "settings.json").write_text(json.dumps(settings))
    found = load_retrieval(folder)
    assert found.dayparts is None
    assert "tensor" not in found.generators
    assert found.feature_names == load_retrieval(bundle).feature_names


def test_a_signal_that_knows_no_song_gets_no_index(tmp_path, monkeypatch):
    monkeypatch.setattr("serving.bundle.EXACT_BELOW", 1)
    factors = np.random.default_rng(3).normal(size=(800, 8)).astype(np.float32)
    for signal, known in (("like", np.zeros(800, np.bool_)), ("listen", np.ones(800, np.bool_))):
        model = FactorModel(factors * known[:, None], known, 0.1, 1.0, 1.0)
        save_factors(tmp_path / f"factors_{signal}.npz", model)
    signals = {signal: {"candidates": 5} for signal in SIGNALS}
    (tmp_path / "settings.json").write_text(json.dumps({"signals": signals}), encoding="utf-8")
    index_factors(tmp_path)
    assert (tmp_path / index_file("listen")).exists()
    assert not (tmp_path / index_file("like")).exists()
