"""What copick reads in a project that tomoseg wrote; for a Python that has copick.

python -m venv other && other/bin/pip install copick
tomoseg pick mask.zarr --copick PROJECT --out picks.csv
tomoseg convert mask.zarr --copick PROJECT
other/bin/python benchmarks/copick_project.py PROJECT picks.csv
"""

import csv
import sys
from pathlib import Path

import copick
import numpy as np

project, table = Path(sys.argv[1]), Path(sys.argv[2])
root = copick.from_file(str(project / "copick_config.json"))
print("objects", [(o.name, o.is_particle, o.label) for o in root.pickable_objects])
for run in root.runs:
    for picks in run.picks:
        found = np.array([[p.location.z, p.location.y, p.location.x] for p in picks.points])
        with table.open() as file:
            rows = [row for row in csv.DictReader(file) if row["tomogram"] == run.name]
        voxels = np.array([[float(row[axis]) for axis in "zyx"] for row in rows])
        spacing = float(picks.meta.voxel_spacing)
        error = np.abs(found / spacing - voxels).max(initial=0)
        print(run.name, picks.pickable_object_name, len(found), f"picks, off by {error:.1e} voxel")
        print(" scores", [round(p.score, 3) for p in picks.points[:3]])
    for segmentation in run.segmentations:
        values = segmentation.numpy()
        print(
            run.name, segmentation.name, segmentation.voxel_size, values.shape, values.dtype,
            int((values != 0).sum()), "voxels",
        )  # fmt: skip
