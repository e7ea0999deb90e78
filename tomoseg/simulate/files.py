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
from tomoseg.simulate.sample import DatasetConfig, Sample

COLUMNS = ("instance", "kind", "name", "z", "y", "x", *(f"r{i}{j}" for i in "zyx" for j in "zyx"))


VOLUMES = ("truth", "classes", "instances")


def output_files(path: Path, *, overwrite: bool) -> dict[str, Path]:
    """Return the files that `write_tomogram` writes, by what they hold.

    Parameters
    ----------
    path
        ``NAME.mrc``: the tomogram (float32). Beside it ``NAME_truth.mrc`` (0/1, what a
        segmentation should find), ``NAME_classes.mrc``, ``NAME_instances.mrc``,
        ``NAME_particles.csv`` (centres in voxels, rotations) and ``NAME.json`` (recipe).
    overwrite
        Whether files that are there may be replaced.

    Raises
    ------
    RequestError
        Where `path` does not end in ``.mrc``.
    OutputExistsError
        Where one of the files is there, without `overwrite`.
    """
    if path.suffix != ".mrc":
        raise RequestError(f"--out: expected NAME.mrc or NAME.zarr, got {path}.")
    files = {"tomogram": path}
    files |= {name: path.with_name(f"{path.stem}_{name}.mrc") for name in VOLUMES}
    files["particles"] = path.with_name(f"{path.stem}_particles.csv")
    files["recipe"] = path.with_suffix(".json")
    for file in files.values():
        require_writable(file, overwrite=overwrite)
    return files


def write_tomogram(
    files: dict[str, Path], sample: Sample, config: DatasetConfig, *, overwrite: bool
) -> None:
    """Write a tomogram and its truth.

    Parameters
    ----------
    files
        What `output_files` returned.
    sample
        What to write.
    config
        Of which it was made.
    overwrite
        Whether files that are there are replaced.

    Raises
    ------
    StorageError
        Where the file system refuses.
    """
    volumes: dict[str, NDArray[Any]] = {
        "tomogram": sample.tomogram,
        "truth": sample.salient.astype(np.int8),
        "classes": sample.classes.astype(np.int8),
        "instances": sample.instances,
    }
    folder = files["tomogram"].parent
    with storage_errors("Making", folder):
        folder.mkdir(parents=True, exist_ok=True)
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


def _particles(sample: Sample) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for p in sample.record["particles"]:
        rows.writerow([p["instance"], p["kind"], p["name"], *p["centre_zyx"], *p["rotation_zyx"]])
    return text.getvalue()
