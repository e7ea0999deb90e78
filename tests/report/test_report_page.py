"""The report as its reader gets it: one file that is whole, sound, honest and closed."""

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser

import mrcfile
import numpy as np
import pandas
import pytest
from outputs import make_output, write_mrc
from PIL import Image

from tomoseg.errors import InputError, OutputExistsError
from tomoseg.io.convert import convert
from tomoseg.io.omezarr import update_attributes
from tomoseg.report.particles import measure_particles, read_particles
from tomoseg.report.write import write_report
from tomoseg.segmentation import open_segmentation

SHAPE = (20, 70, 90)
BALLS = {(9.0, 30.0, 40.0): 5, (12.0, 55.0, 20.0): 3, (0.0, 10.0, 80.0): 4}
"""Centres and radii; the last one is cut by the border."""


class Page(HTMLParser):
    """Every element with its attributes; fails where tags do not match."""

    VOID = ("meta", "img", "input", "line", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    grid = np.indices(SHAPE).astype(float)
    inside = np.zeros(SHAPE, bool)
    for centre, radius in BALLS.items():
        inside |= np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))) < radius
    noise = np.random.default_rng(0).normal(size=SHAPE)
    folder = tmp_path_factory.mktemp("report")
    tomogram = write_mrc(folder / "<b>tomo.mrc", (noise - 4 * inside).astype(np.float32))
    return make_output(tomogram, np.where(inside, 240, 5).astype(np.uint8))


def slices_of(text: str) -> dict:
    return json.loads(re.search(r"const slices = (\{.*\});", text)[1])


def picture(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))


def test_one_file_that_is_sound_and_closed(output, tmp_path):
    result = write_report(output, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    page = Page(text)
    assert result["bytes"] == len(text.encode()) < 5e6
    assert "<b>tomo" not in text  # names are escaped
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(image["alt"] for image in page.all("img"))
    labels = {label.get("for") for label in page.all("label")}
    assert "z" in labels
    addresses = [a[key] for _, a in page.elements for key in ("src", "href") if key in a]
    assert addresses
    assert all(address.startswith("data:image/") for address in addresses)
    policy = page.all("meta")[3]["content"]
    assert "default-src 'none'" in policy
    for heading in ("Warnings", "Slices", "Saliency", "Components", "Provenance"):
        assert f">{heading}</h2>" in text
    assert "random:0" in text
    assert "a command" in text


def test_slices_show_the_tomogram_and_outline_the_mask(output, tmp_path):
    write_report(output, tmp_path / "r.html")
    slices = slices_of((tmp_path / "r.html").read_text())
    assert slices["positions"] == list(range(20))
    grey = np.asarray(picture(slices["pictures"][9]), float)
    outline = np.asarray(picture(slices["outlines"][9]).convert("RGBA"))[..., 3] > 0
    assert grey.shape == outline.shape == (398, 512)
    scale = 512 / 90
    y, x = round(30.5 * scale), round(40.5 * scale)
    assert grey[y - 5 : y + 5, x - 5 : x + 5].mean() < 60 < grey.mean()  # dark, as objects are
    rows, columns = np.nonzero(outline[: y + 60, : x + 60])
    assert not outline[y, x]
    assert (rows.min() + rows.max()) / 2 == pytest.approx(y, abs=scale)
    assert (columns.max() - columns.min()) / scale == pytest.approx(9, abs=1)
    assert not np.asarray(picture(slices["outlines"][19]).convert("RGBA"))[..., 3].any()


def test_without_the_tomogram_the_saliency_stands_in_and_it_is_said(output, tmp_path):
    moved = output.with_suffix(".elsewhere")
    output.with_suffix(".mrc").rename(moved)
    try:
        result = write_report(output, tmp_path / "r.html")
        assert "tomogram cannot be shown" in result["warnings"][0]
        text = (tmp_path / "r.html").read_text()
        assert "Saliency (dark is salient), for the tomogram is not at hand" in text
        result = write_report(output, tmp_path / "s.html", source=str(moved))
        assert "Density of the tomogram" in (tmp_path / "s.html").read_text()
        with pytest.raises(InputError, match="does not exist"):
            write_report(output, tmp_path / "t.html", source="nowhere.mrc")
    finally:
        moved.rename(output.with_suffix(".mrc"))


def test_of_a_large_image_a_coarser_level_is_shown(output, tmp_path, monkeypatch):
    convert(output.with_suffix(".mrc"), tmp_path / "pyramid.zarr")
    monkeypatch.setattr("tomoseg.report.views.LONGEST", 50)
    write_report(output, tmp_path / "r.html", source=str(tmp_path / "pyramid.zarr"))
    text = (tmp_path / "r.html").read_text()
    assert "each pixel a voxel within its plane of its level 1" in text
    slices = slices_of(text)
    grey = np.asarray(picture(slices["pictures"][4]), float)
    y, x = (round((c + 0.5) * grey.shape[1] / 90) for c in (30, 40))
    assert slices["positions"][4] == 9
    assert grey[y - 5 : y + 5, x - 5 : x + 5].mean() < 60 < grey.mean()
    monkeypatch.setattr("tomoseg.report.views.READ_BYTES", 1000)
    write_report(output, tmp_path / "s.html")
    assert "for the tomogram is too large to be read in time" in (tmp_path / "s.html").read_text()


def test_components_are_where_they_are(output):
    found = measure_particles(open_segmentation(output))
    order = np.argsort(-found.volumes)
    np.testing.assert_allclose(found.centres_zyx[order[0]], (9, 30, 40), atol=1e-6)
    assert found.diameters[order[0]] == pytest.approx(100, rel=0.05)
    assert found.at_border.sum() == 1


def test_coarse_components_lie_over_the_fine_ones_and_say_so(output, monkeypatch):
    monkeypatch.setattr("tomoseg.report.particles.MOST_VOXELS", 20_000)
    found = measure_particles(open_segmentation(output))
    largest = np.argmax(found.volumes)
    np.testing.assert_allclose(found.centres_zyx[largest], (9, 30, 40), atol=0.6)
    assert found.diameters[largest] == pytest.approx(110, rel=0.1)
    assert "upper bounds" in found.source


def test_a_table_of_particles_is_taken_as_it_is(output, tmp_path):
    table = tmp_path / "p.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["z", "y", "x", "score", "volume_angstrom3"], [9, 30, 40, 0.9, 5e5], [1, 2, 3, "", ""]]
        )
    result = write_report(output, tmp_path / "r.html", particles=table)
    assert result["particles"] == 2
    assert "0.900" in (tmp_path / "r.html").read_text()
    opened = open_segmentation(output)
    same = table.with_suffix(".parquet")
    pandas.read_csv(table).to_parquet(same)
    for name in ("centres_zyx", "scores", "volumes"):
        one, other = (getattr(read_particles(path, opened), name) for path in (table, same))
        np.testing.assert_array_equal(one, other)
    frame = pandas.DataFrame({"z": [9.0], "y": [30.0], "x": [40.0], "border": [True]})
    frame.to_parquet(same)
    assert read_particles(same, opened).at_border.tolist() == [True]
    points = tmp_path / "p.txt"
    points.write_text("40.5 30.5 9\n")
    np.testing.assert_allclose(read_particles(points, opened).centres_zyx, [[9, 30, 40]])
    star = tmp_path / "p.star"
    star.write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup #1\n1\n\n\ndata_particles\n\nloop_\n"
        "_rlnTomoName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n_rlnCoordinateZ #4\n"
        "<b>tomo.tomostar 40 30 9 # first\nanother 3 2 1\n"
    )
    np.testing.assert_array_equal(read_particles(star, opened).centres_zyx, [[9, 30, 40]])
    star.write_text(
        "data_particles\nloop_\n_rlnCenteredCoordinateXAngst #1\n_rlnCenteredCoordinateYAngst #2\n"
        "_rlnCenteredCoordinateZAngst #3\n-50 -50 -10\n"
    )
    np.testing.assert_allclose(read_particles(star, opened).centres_zyx, [[9, 30, 40]])
    table.write_text("z,y,x,tomogram\n1,2,3,one\n4,5,6,two\n")
    with pytest.raises(InputError, match="got those of \\['one', 'two'\\]"):
        read_particles(table, opened)
    for content in ("z,y\n1,2\n", "z,y,x\n1,2,a\n", "z,y,x\n1,2\n", ""):
        table.write_text(content)
        with pytest.raises(InputError, match="expected"):
            read_particles(table, opened)


def test_what_is_no_finished_output_is_refused_and_nothing_is_overwritten(output, tmp_path):
    (tmp_path / "r.html").write_text("mine")
    with pytest.raises(OutputExistsError):
        write_report(output, tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == "mine"
    with pytest.raises(InputError, match="expected an output"):
        write_report(tmp_path, tmp_path / "s.html")
    update_attributes(output, {"complete": False})
    try:
        with pytest.raises(InputError, match="not complete"):
            write_report(output, tmp_path / "s.html")
    finally:
        update_attributes(output, {"complete": True})


def test_of_ome_zarr_04(tmp_path):
    density = np.random.default_rng(0).normal(size=(8, 20, 20)).astype(np.float32)
    tomogram = write_mrc(tmp_path / "a.mrc", density)
    saliency = np.where(density > 2, 200, 0).astype(np.uint8)
    output = make_output(tomogram, saliency, ome_version="0.4")
    assert write_report(output)["report"] == str(tmp_path / "a.html")


def test_a_changed_tomogram_is_told_of(output, tmp_path):
    tomogram = output.with_suffix(".mrc")
    before = tomogram.read_bytes()
    with mrcfile.open(tomogram, "r+") as file:
        file.data[0] += 1
    try:
        result = write_report(output, tmp_path / "r.html")
        assert "changed after it was segmented" in result["warnings"][0]
    finally:
        tomogram.write_bytes(before)
