"""One simulated tomogram as files that any program of the field opens.

The only part of the simulator that writes MRC; data sets are Zarr.
"""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomoseg.errors import RequestError
from tomoseg.geometry import whole
from tomoseg.io.mrc import MrcWriter
from tomoseg.io.storage import require_writable, storage_errors, write_json
from tomoseg.simulate.dataset import DatasetConfig, Sample

COLUMNS = ("instance", "kind", "name", "z", "y", "x", *(f"r{i}{j}" for i in "zyx" for j in "zyx"))


def write_tomogram(
    path: Path, sample: Sample, config: DatasetConfig, *, overwrite: bool
) -> dict[str, str]:
    """Write a tomogram and, beside it, its truth.

    Parameters
    ----------
    path
        ``NAME.mrc``: the tomogram (float32). Beside it ``NAME_truth.mrc`` (0/1, what a
        segmentation should find), ``NAME_classes.mrc``, ``NAME_instances.mrc``,
        ``NAME_particles.csv`` (centres in voxels, rotations) and ``NAME.json`` (recipe).
    sample
        What to write.
    config
        Of which it was made.
    overwrite
        Whether files that are there are replaced.

    Returns
    -------
    dict
        Path of each file, by what it holds.

    Raises
    ------
    OutputExistsError
        Where one of the files is there, without `overwrite`; nothing is written then.
    StorageError
        Where the file system refuses.
    """
    if path.suffix != ".mrc":
        raise RequestError(f"--out: expected NAME.mrc or NAME.zarr, got {path}.")
    volumes: dict[str, NDArray[Any]] = {
        "tomogram": sample.tomogram,
        "truth": sample.salient.astype(np.int8),
        "classes": sample.classes.astype(np.int8),
        "instances": sample.instances,
    }
    files = {name: path.with_name(f"{path.stem}_{name}.mrc") for name in volumes}
    files["tomogram"] = path
    files["particles"] = path.with_name(f"{path.stem}_particles.csv")
    files["recipe"] = path.with_suffix(".json")
    for file in files.values():
        require_writable(file, overwrite=overwrite)
    with storage_errors("Writing", path):
        path.parent.mkdir(parents=True, exist_ok=True)
    voxel = config.voxel_size_angstrom
    for name, values in volumes.items():
        with MrcWriter(
            files[name],
            shape=values.shape,
            dtype=values.dtype.name,
            voxel_size_angstrom=(voxel, voxel, voxel),
            label=f"tomoseg simulate: {name}",
            overwrite=overwrite,
        ) as writer:
            writer.write(whole(values.shape), values)
    with storage_errors("Writing", files["particles"]):
        files["particles"].write_text(_particles(sample), encoding="utf-8")
    write_json(files["recipe"], {"config": config.to_dict(), **sample.record})
    return {name: str(file) for name, file in files.items()}


def _particles(sample: Sample) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for p in sample.record["particles"]:
        rows.writerow([p["instance"], p["kind"], p["name"], *p["centre_zyx"], *p["rotation_zyx"]])
    return text.getvalue()
