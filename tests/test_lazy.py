"""Volumes as Dask arrays."""

import pickle

import mrcfile
import numpy as np
import pytest
import zarr

from tomoseg import lazy
from tomoseg.io.volume import open_volume

DATA = np.arange(6 * 7 * 8, dtype=np.float32).reshape(6, 7, 8)


@pytest.mark.parametrize("kind", ["mrc", "zarr"])
def test_the_array_is_the_volume_and_is_read_piece_by_piece(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(lazy, "PIECE_BYTES", 2 * 7 * 8 * 4)
    path = tmp_path / f"a.{kind}"
    if kind == "mrc":
        with mrcfile.new(path) as file:
            file.set_data(DATA)
    else:
        zarr.create_array(path, data=DATA, chunks=(2, 4, 4))
    array = lazy.lazy_array(open_volume(path))
    assert (array.shape, array.dtype) == (DATA.shape, DATA.dtype)
    assert array.chunksize == ((2, 7, 8) if kind == "mrc" else (2, 4, 4))
    np.testing.assert_array_equal(array.compute(scheduler="sync"), DATA)
    part = pickle.loads(pickle.dumps(array))[1:5:2, -1, ::3]
    np.testing.assert_array_equal(part.compute(scheduler="sync"), DATA[1:5:2, -1, ::3])
