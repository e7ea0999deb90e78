"""Particles as other programs see them: each on its voxel, read back by independent readers."""

import json
import sys
from typing import get_args

import numpy as np
import pandas
import pytest
import starfile

from tomoseg.config import PARTICLE_SUFFIXES, ParticleFormat
from tomoseg.errors import InputError, OutputExistsError, RequestError
from tomoseg.io.copick import ensure_project, picks_destination
from tomoseg.io.particle_files import (
    FORMATS,
    Destination,
    Export,
    parse_destination,
    read_tomograms,
    write_particles,
)
from tomoseg.io.particle_input import read_particles
from tomoseg.io.picks import Picks
from tomoseg.io.star import read_star

VOXEL = (10.0, 10.0, 10.0)
CENTRES = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [30.25, 99.0, 79.5]])
"""z, y, x: the first voxel, one with three different numbers, and one between voxels."""

XYZ = CENTRES[:, ::-1]


def picks(name="TS_1", centres=CENTRES, origin=(0.0, 0.0, 0.0)):
    columns = {"score": np.linspace(0.9, 0.5, len(centres)), "voxels": np.arange(len(centres)) + 7}
    return Picks(name, (40, 100, 80), VOXEL, origin, centres, columns)


def write(tmp_path, name, *tomograms, **export):
    destination = parse_destination(name)
    destination = Destination(destination.format, tmp_path / destination.path)
    write_particles(tomograms or [picks()], destination, Export(**export), overwrite=False)
    return destination.path


def coordinates(path, prefix="rlnCoordinate", suffix=""):
    return starfile.read(path)[[f"{prefix}{axis}{suffix}" for axis in "XYZ"]].to_numpy()


def test_relion_4_and_warp_count_unbinned_pixels(tmp_path):
    path = write(tmp_path, "r4.star", binning=4.0)
    np.testing.assert_allclose(coordinates(path), 4 * XYZ, atol=1e-6)
    table = starfile.read(path, always_dict=True)["particles"]
    assert list(table["rlnTomoName"]) == ["TS_1"] * 3
    np.testing.assert_allclose(table["rlnAutopickFigureOfMerit"], [0.9, 0.7, 0.5])
    assert not any("Angle" in column for column in table)  # unknown, not zero
    path = write(tmp_path, "warp:w.star")
    np.testing.assert_allclose(coordinates(path), XYZ, atol=1e-6)
    assert starfile.read(path)["rlnMicrographName"][0] == "TS_1.tomostar"


TOMOGRAMS = """
data_global

loop_
_rlnTomoName #1
_rlnTomoTiltSeriesPixelSize #2
_rlnTomoTomogramBinning #3
_rlnTomoSizeX #4
_rlnTomoSizeY #5
_rlnTomoSizeZ #6
TS_1 2.5 4.0 322 400 158
"""


def test_relion_5_counts_angstrom_from_the_middle(tmp_path):
    def read(path):
        return coordinates(path, "rlnCenteredCoordinate", "Angst")

    # the voxel in the middle of 80 x 100 x 40 is 40, 50, 20 from 0: half the size
    middle = picks(centres=np.array([[20.0, 50.0, 40.0]]))
    np.testing.assert_allclose(read(write(tmp_path, "relion5:m.star", middle)), [[0, 0, 0]])
    path = write(tmp_path, "relion5:binned.star", binning=4.0)
    half = read(path)
    np.testing.assert_allclose(half, 10 * (XYZ - [40, 50, 20]), atol=1e-5)
    other = read(write(tmp_path, "relion5:o.star", binning=4.0, centre="half-minus-one"))
    np.testing.assert_allclose(other - half, 2.5, atol=1e-5)  # one unbinned pixel
    (tmp_path / "tomograms.star").write_text(TOMOGRAMS)
    tomograms = read_tomograms(tmp_path / "tomograms.star")
    found = read(write(tmp_path, "relion5:t.star", tomograms=tomograms))
    # RELION's own size, not four times ours; binning from 10 A over 2.5 A
    np.testing.assert_allclose(found, 2.5 * (4 * XYZ - [161, 200, 79]), atol=1e-5)
    with pytest.raises(RequestError, match="--tomo-name"):
        write(tmp_path, "relion5:n.star", picks("TS_2"), tomograms=tomograms)
    (tmp_path / "tomograms.star").write_text(TOMOGRAMS.replace("322", "-1"))
    with pytest.raises(InputError, match="size of TS_1"):
        read_tomograms(tmp_path / "tomograms.star")


def test_dynamo_counts_from_one(tmp_path):
    table = np.loadtxt(write(tmp_path, "d.tbl", picks(), picks("TS_2")))
    assert table.shape == (6, 35)
    np.testing.assert_allclose(table[:3, 23:26], XYZ + 1, atol=1e-6)
    assert list(table[:, 0]) == [1, 2, 3, 4, 5, 6]
    assert list(table[:, 19]) == [1, 1, 1, 2, 2, 2]
    np.testing.assert_allclose(table[:3, 9], [0.9, 0.7, 0.5])


def test_portal_imod_and_csv(tmp_path):
    lines = write(tmp_path, "p.ndjson").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert found[1] == {"type": "point", "location": {"x": 3.0, "y": 2.0, "z": 1.0}}
    # IMOD: the first voxel's centre is 0.5, 0.5, 0
    imod = np.loadtxt(write(tmp_path, "i.txt"))
    np.testing.assert_allclose(imod, XYZ + np.array([0.5, 0.5, 0.0]), atol=1e-3)
    table = np.genfromtxt(
        write(tmp_path, "c.csv", picks(origin=(5.0, 6.0, 7.0))), delimiter=",", names=True
    )
    np.testing.assert_allclose(np.stack([table[a] for a in "zyx"], 1), CENTRES, atol=1e-6)
    angstrom = np.stack([table[f"{axis}_angstrom"] for axis in "zyx"], 1)
    np.testing.assert_allclose(angstrom, 10 * CENTRES + [5, 6, 7], atol=1e-3)
    assert list(table["voxels"]) == [7, 8, 9]


def test_parquet(tmp_path):
    """With columns that one of two tomograms lacks, as a table of numbers."""
    scored, bare = picks(origin=(5.0, 6.0, 7.0)), picks("TS_2")
    del bare.columns["score"]
    table = pandas.read_parquet(write(tmp_path, "p.parquet", scored, bare))
    assert list(table["tomogram"]) == ["TS_1"] * 3 + ["TS_2"] * 3
    np.testing.assert_array_equal(table[["z", "y", "x"]].to_numpy()[:3], CENTRES)
    angstrom = table[[f"{axis}_angstrom" for axis in "zyx"]].to_numpy()[:3]
    np.testing.assert_array_equal(angstrom, 10 * CENTRES + [5, 6, 7])
    assert list(table["voxels"]) == [7, 8, 9] * 2
    assert table["voxels"].dtype == np.int64
    assert list(table["score"].isna()) == [False] * 3 + [True] * 3
    csv = pandas.read_csv(write(tmp_path, "p.csv", scored, bare))
    pandas.testing.assert_frame_equal(csv, table, check_dtype=False, atol=1e-4)


def test_parquet_without_pyarrow_is_refused_with_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path, "p.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RequestError, match=r"pip install 'tomoseg\[parquet\]'"):
        write(tmp_path, "q.parquet")
    with pytest.raises(RequestError, match=r"tomoseg\[parquet\]"):
        read_particles(path, picks(), Export())


def test_copick(tmp_path):
    export = Export(object_name="ribosome")
    ensure_project(tmp_path, export, is_particle=True)
    ensure_project(tmp_path, Export(object_name="fas"), is_particle=True)
    ensure_project(tmp_path, export, is_particle=True)
    config = json.loads((tmp_path / "copick_config.json").read_text())
    assert [(o["name"], o["label"]) for o in config["pickable_objects"]] == [
        ("ribosome", 1),
        ("fas", 2),
    ]
    destination = picks_destination(tmp_path, "TS_1", export)
    assert str(destination.path.relative_to(tmp_path)) == (
        "ExperimentRuns/TS_1/Picks/tomoseg_0_ribosome.json"
    )
    write_particles([picks(origin=(5.0, 6.0, 7.0))], destination, export, overwrite=False)
    found = json.loads(destination.path.read_text())
    assert found["trust_orientation"] is False
    assert found["points"][1]["location"] == {"x": 30.0, "y": 20.0, "z": 10.0}
    assert found["points"][1]["score"] == 0.7
    with pytest.raises(RequestError, match="underscores"):
        Export(object_name="my_object")


ROUND = ["a.star", "relion5:a.star", "warp:a.star", "a.tbl", "a.ndjson", "a.parquet"]


@pytest.mark.parametrize("name", ROUND)
@pytest.mark.parametrize("binning", [None, 4.0])
def test_what_was_written_is_read_back(tmp_path, name, binning):
    path = write(tmp_path, name, picks(), binning=binning)
    found = read_particles(path, picks(centres=np.zeros((0, 3))), Export(binning=binning))
    np.testing.assert_allclose(found.centres, CENTRES, atol=1e-6)


@pytest.mark.parametrize("name", ["a.star", "a.csv", "a.parquet"])
def test_one_tomogram_of_several(tmp_path, name):
    path = write(tmp_path, name, picks(), picks("TS_2", CENTRES[1:] + 1))
    found = read_particles(path, picks("TS_2"), Export())
    np.testing.assert_allclose(found.centres, CENTRES[1:] + 1, atol=1e-6)
    with pytest.raises(InputError, match="--tomo-name"):
        read_particles(path, picks("TS_3"), Export())


def test_copick_csv_and_imod_are_read_back(tmp_path):
    for name in ("a.json", "a.csv", "a.txt"):
        found = read_particles(write(tmp_path, name), picks(), Export())
        np.testing.assert_allclose(found.centres, CENTRES, atol=1e-4)


def test_star_files_as_others_write_them(tmp_path):
    path = tmp_path / "a.star"
    path.write_text(
        "# version 50001\n\ndata_general\n\n_rlnTomoSubTomosAre2DStacks   1\n\n"
        "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnOpticsGroupName #2\n1 'a b'\n\n"
        "data_particles\n\nloop_ \n_rlnCoordinateX #1 \n_rlnCoordinateY #2\n_rlnCoordinateZ #3\n"
        "_rlnTomoName\n  1.5 2 3 TS#1 \n\n4 5 6 TS#1\n"
    )
    blocks = read_star(path)
    assert blocks["general"] == {"rlnTomoSubTomosAre2DStacks": ["1"]}
    assert blocks["optics"]["rlnOpticsGroupName"] == ["a b"]
    found = read_particles(path, picks(), Export())
    np.testing.assert_array_equal(found.centres, [[3, 2, 1.5], [6, 5, 4]])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.star", "no star\n", "STAR"),
        ("a.star", "data_\nloop_\n_rlnX\n1 2\n", "line 4"),
        ("a.star", "data_\nloop_\n_rlnX\n1\n", "rlnCoordinateX"),
        ("a.json", "[]", "particles"),
        ("a.ndjson", "{}\n", "location"),
        ("a.parquet", "PAR1", "particles"),
        ("a.csv", "a,b\n1,2\n", "columns z, y, x"),
        ("a.csv", "z,y,x\n1,2,no\n", "no"),
        ("a.csv", "z,y,x\n1,2,nan\n", "finite"),
        ("a.tbl", "1 2 3\n", "26 columns"),
        ("a.xyz", "", "ends in"),
    ],
)
def test_what_holds_no_particles_is_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        read_particles(tmp_path / name, picks(), Export())
    with pytest.raises(InputError):
        read_particles(tmp_path / f"none-{name}", picks(), Export())


def test_destinations_are_refused_before_work(tmp_path):
    assert parse_destination("relion5:a.star") == Destination(
        "relion5", parse_destination("a.star").path
    )
    assert parse_destination("a.star", "warp").format == "warp"
    with pytest.raises(RequestError, match="FORMAT:PATH"):
        parse_destination("particles")
    write(tmp_path, "a.star")
    with pytest.raises(OutputExistsError):
        write(tmp_path, "a.star")
    with pytest.raises(RequestError, match="one tomogram"):
        write(tmp_path, "a.txt", picks(), picks("TS_2"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.star"]


def test_every_format_that_is_named_is_written():
    assert tuple(FORMATS) == get_args(ParticleFormat)
    assert set(PARTICLE_SUFFIXES.values()) == FORMATS.keys() - {"relion5", "warp"}


@pytest.mark.parametrize("name", FORMATS)
def test_no_particles_make_a_file_all_the_same(tmp_path, name):
    assert write(tmp_path, f"{name}:empty", picks(centres=np.zeros((0, 3)))).exists()
