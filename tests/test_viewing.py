"""Layers for a viewer, without the viewer."""

import sys
from types import ModuleType

import numpy as np
import pytest
from outputs import make_output, write_mrc

from tomoseg.errors import InputError
from tomoseg.segmentation import open_segmentation
from tomoseg.viewing import add_layers, build_layers

SHAPE = (20, 70, 90)


class Viewer:
    """Notes what it is asked to add."""

    def __init__(self):
        self.layers = []
        self.scale_bar = ModuleType("scale_bar")

    def add_image(self, data, **settings):
        self.layers.append(("image", data, settings))

    def add_labels(self, data, **settings):
        self.layers.append(("labels", data, settings))


@pytest.fixture
def output(tmp_path):
    density = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    saliency = np.where(density > 1, 200, 3).astype(np.uint8)
    return make_output(write_mrc(tmp_path / "a.mrc", density, 12.0), saliency)


def test_layers_lie_over_one_another_in_angstrom_and_are_lazy(output):
    tomogram, saliency, mask = build_layers(open_segmentation(output))
    assert [layer.name for layer in (tomogram, saliency, mask)] == ["tomogram", "saliency", "mask"]
    assert tomogram.scale == saliency.scale == mask.scale == (12.0, 12.0, 12.0)
    assert tomogram.translate == saliency.translate == mask.translate
    assert [level.shape for level in mask.levels] == [SHAPE, (10, 35, 45)]
    dark, light = tomogram.settings["contrast_limits"]
    assert dark == pytest.approx(-light, abs=0.2)
    expected = np.asarray(saliency.levels[0]) >= 128
    np.testing.assert_array_equal(mask.levels[0].compute(), expected)


def test_napari_gets_what_its_layers_know(output):
    viewer = Viewer()
    add_layers(viewer, build_layers(open_segmentation(output)))
    kinds = [(kind, settings["name"]) for kind, _, settings in viewer.layers]
    assert kinds == [("image", "tomogram"), ("image", "saliency"), ("labels", "mask")]
    assert all(settings["units"] == ("angstrom",) * 3 for _, _, settings in viewer.layers)
    assert [settings["multiscale"] for _, _, settings in viewer.layers] == [False, True, True]


def test_a_tomogram_that_is_gone_is_left_out_and_one_that_is_named_must_be_there(output):
    output.with_suffix(".mrc").rename(output.with_suffix(".moved"))
    segmentation = open_segmentation(output)
    assert [layer.name for layer in build_layers(segmentation)] == ["saliency", "mask"]
    assert len(build_layers(segmentation, str(output.with_suffix(".moved")))) == 3
    with pytest.raises(InputError, match="does not exist"):
        build_layers(segmentation, "nowhere.mrc")


def test_without_napari_one_line_says_how_to_get_it(output, tmp_path, monkeypatch, capsys):
    from tomoseg_cli.main import main

    monkeypatch.setitem(sys.modules, "napari", None)
    monkeypatch.setattr(sys, "argv", ["tomoseg", "view", str(output)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'tomoseg[view]'" in line
