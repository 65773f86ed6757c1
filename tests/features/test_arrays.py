"""Arrays in one file: what goes in comes out, mapped, and numpy reads it too."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix, save_npz

from features.arrays import ALIGN, ArrayFile, map_arrays, map_rows, save_arrays, save_rows

ARRAYS = {
    "numbers": np.arange(35, dtype=np.float32).reshape(7, 5),
    "half": np.linspace(0, 1, 9).astype(np.float16),
    "words": np.array([b"one", b"three"]),
    "scalar": np.array(0.25),
    "none": np.empty((0, 3), dtype=np.int64),
    "yes": np.array([True, False]),
}


def test_arrays_come_back_mapped_aligned_and_read_only(tmp_path):
    save_arrays(tmp_path / "a.npz", ARRAYS)
    found = map_arrays(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as loaded:
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(found[name], array)
            np.testing.assert_array_equal(loaded[name], array)
            assert found[name].dtype == array.dtype
            if array.size:
                assert not found[name].flags.writeable
                assert found[name].ctypes.data % ALIGN == 0


def test_equal_arrays_give_equal_bytes_whole_or_in_parts(tmp_path):
    save_arrays(tmp_path / "a.npz", ARRAYS)
    with ArrayFile(tmp_path / "b.npz") as file:
        for name, array in ARRAYS.items():
            parts = [array[:1], array[1:]] if array.ndim else [array]
            file.add_parts(name, array.shape, array.dtype, parts)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_parts_that_do_not_make_up_the_shape_are_refused(tmp_path):
    with (
        ArrayFile(tmp_path / "a.npz") as file,
        pytest.raises(ValueError, match="4 values do not make"),
    ):
        file.add_parts("x", (5,), np.int32, [np.arange(4)])


@pytest.mark.parametrize("packed", [True, False])
def test_what_numpy_and_scipy_wrote_is_read(tmp_path, packed):
    matrix = csr_matrix(np.eye(4, dtype=np.float32) * 3)
    save_npz(tmp_path / "m.npz", matrix, compressed=packed)
    np.testing.assert_array_equal(map_rows(tmp_path / "m.npz").toarray(), matrix.toarray())


def test_a_sparse_matrix_keeps_its_order_and_repeated_entries(tmp_path):
    matrix = csr_matrix((np.ones(3, "f4"), np.array([2, 0, 2]), np.array([0, 3, 3])), shape=(2, 3))
    save_rows(tmp_path / "m.npz", matrix)
    found = map_rows(tmp_path / "m.npz")
    assert found.shape == (2, 3)
    assert found.indices.tolist() == [2, 0, 2]
    assert found.indptr.tolist() == [0, 3, 3]
