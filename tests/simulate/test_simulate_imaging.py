"""The physics of the simulated microscope, against what can be said without it."""

import dataclasses

import numpy as np
import pytest

from tomoseg.errors import RequestError
from tomoseg.simulate.imaging import (
    ImagingConfig,
    back_project,
    choose_tilts,
    contrast_transfer,
    image_scene,
    project,
    weigh,
)
from tomoseg.simulate.scene import SceneConfig, build_scene
from tomoseg.simulate.structures import procedural
from tomoseg.simulate.volume_imaging import VolumeImagingConfig, image_volume

VOXEL = 10.0
PLAIN = ImagingConfig(
    snr=None,
    defocus=None,
    dose=0.0,
    detector=1.0,
    shift_deviation=0.0,
    tilt_deviation=0.0,
    filter="ramp",
)


def ball(shape: tuple[int, int, int], centre: tuple[float, float, float], sigma: float):
    axes = np.meshgrid(
        *(np.arange(n) - c for n, c in zip(shape, centre, strict=True)), indexing="ij"
    )
    return np.exp(-sum(a**2 for a in axes) / (2 * sigma**2)).astype(np.float32)


@pytest.fixture(scope="module")
def scene():
    config = SceneConfig(shape=(48, 64, 64), crowding=0.1, beads=0, vesicles=1, filaments=1)
    return build_scene(config, procedural(8, 1), np.random.default_rng(5))


def frequencies(shape):
    fz, fy = np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1])
    fx = np.fft.rfftfreq(shape[2])
    return np.meshgrid(fz, fy, fx, indexing="ij")


def test_a_ball_is_projected_where_geometry_says():
    shape, centre = (40, 32, 56), (26.0, 10.0, 20.0)
    volume = ball(shape, centre, 2.5)
    tilts = np.array([-60.0, -20.0, 0.0, 45.0])
    images = project(volume, tilts)
    z, y, x = (c - (n - 1) / 2 for c, n in zip(centre, shape, strict=True))
    for tilt, image in zip(np.deg2rad(tilts), images, strict=True):
        assert image.sum() == pytest.approx(volume.sum(), rel=1e-4)
        rows, pixels = np.indices(image.shape)
        at = (image * pixels).sum() / image.sum() - (image.shape[1] - 1) / 2
        assert at == pytest.approx(x * np.cos(tilt) + z * np.sin(tilt), abs=0.02)
        assert (image * rows).sum() / image.sum() - (shape[1] - 1) / 2 == pytest.approx(y, abs=0.02)
        expected = np.sqrt(2 * np.pi) * 2.5  # the line integral through the centre
        assert image.max() == pytest.approx(expected, rel=0.06)


def test_all_tilts_give_the_density_back():
    volume = ball((40, 16, 40), (22.0, 8.0, 16.0), 3.0) - ball((40, 16, 40), (12, 8, 28), 4.0)
    tilts = np.arange(-90.0, 90.0, 1.5)
    images = weigh(project(volume, tilts), PLAIN)
    again = back_project(images, tilts, volume.shape)
    inner = (slice(4, -4),) * 3
    slope = (again[inner] * volume[inner]).sum() / (volume[inner] ** 2).sum()
    assert slope == pytest.approx(1.0, abs=0.08)
    assert np.corrcoef(again[inner].ravel(), volume[inner].ravel())[0, 1] > 0.98


def test_projection_and_back_projection_are_transposed():
    random = np.random.default_rng(0)
    shape, tilts = (12, 5, 16), np.array([-50.0, -3.0, 31.0])
    volume = random.normal(size=shape).astype(np.float32)
    images = project(volume, tilts)
    other = random.normal(size=images.shape).astype(np.float32)
    step = np.deg2rad(np.ptp(tilts)) / (len(tilts) - 1)
    back = back_project(other, tilts, shape) / step
    assert (images * other).sum() == pytest.approx((volume * back).sum(), rel=1e-4)


@pytest.mark.parametrize("limit", [40.0, 60.0])
def test_the_missing_wedge_is_empty(scene, limit):
    config = dataclasses.replace(PLAIN, snr=1.0, tilt_min=-limit, tilt_max=limit)
    values = image_scene(scene, config, np.random.default_rng(1)).values
    window = np.ones(values.shape)
    for axis, n in enumerate(values.shape):
        shape = [1, 1, 1]
        shape[axis] = n
        window = window * np.hanning(n).reshape(shape)
    power = np.abs(np.fft.rfftn(values * window)) ** 2
    fz, _, fx = frequencies(values.shape)
    angle = np.rad2deg(np.arctan2(np.abs(fz), np.abs(fx)))
    radius = np.hypot(fz, fx)
    band = (radius > 0.12) & (radius < 0.4)
    missing = power[band & (angle > limit + 8)].mean()
    measured = power[band & (angle < limit - 8)].mean()
    assert missing < 0.01 * measured


@pytest.mark.parametrize("snr", [0.1, 0.5, 1.5])
def test_the_snr_is_what_it_says(scene, snr):
    config = ImagingConfig(snr=snr)
    noisy = image_scene(scene, config, np.random.default_rng(7))
    clean = image_scene(scene, dataclasses.replace(config, snr=None), np.random.default_rng(7))
    noise = noisy.values - clean.values
    assert clean.values.var() / noise.var() == pytest.approx(snr, rel=0.01)
    assert noisy.snr == pytest.approx(snr, rel=1e-3)
    assert clean.snr == np.inf


def test_filters_change_the_realised_snr_and_it_is_recorded(scene):
    config = ImagingConfig(snr=0.5, lowpass_voxels=1.5)
    noisy = image_scene(scene, config, np.random.default_rng(7))
    clean = image_scene(scene, dataclasses.replace(config, snr=None), np.random.default_rng(7))
    measured = clean.values.var() / (noisy.values - clean.values).var()
    assert noisy.snr == pytest.approx(measured, rel=0.01)
    assert noisy.snr > 0.6


def test_the_volume_form_records_what_it_realised(scene):
    config = VolumeImagingConfig(snr=0.5)
    noisy = image_volume(scene, config, np.random.default_rng(7))
    clean = image_volume(scene, dataclasses.replace(config, snr=None), np.random.default_rng(7))
    measured = clean.values.var() / (noisy.values - clean.values).var()
    assert noisy.snr == pytest.approx(measured, rel=0.01)
    power = np.abs(np.fft.rfftn(noisy.values)) ** 2
    fz, _, fx = frequencies(noisy.values.shape)
    outside = np.abs(fz) > fx * np.tan(np.deg2rad(60)) + 1e-6
    assert power[outside].max() < 1e-6 * power.max()


@pytest.mark.parametrize("defocus", [3.0, 8.0])
def test_the_contrast_transfer_is_zero_where_optics_say(defocus):
    config = ImagingConfig()
    size = 512
    row = contrast_transfer(defocus, config, (size, size), VOXEL)[0]
    wavelength, cs, amplitude = 0.0196875, config.spherical_aberration * 1e7, 0.07
    f = np.fft.rfftfreq(size) / VOXEL
    phase = np.pi * wavelength * (defocus * 1e4) * f**2 - 0.5 * np.pi * cs * wavelength**3 * f**4
    expected = np.sin(phase + np.arcsin(amplitude))
    np.testing.assert_allclose(row, expected, atol=0.02)
    assert row[0] == pytest.approx(amplitude, abs=1e-3)
    assert (np.diff(np.sign(row)) != 0).any()


def test_images_lose_the_zeros_of_the_contrast_transfer():
    density = np.zeros((32, 96, 96), np.float32)
    density[16, 48, 48] = 1.0
    config = SceneConfig(shape=density.shape, crowding=0.0, vesicles=0, filaments=0, beads=0)
    point = dataclasses.replace(build_scene(config, [], np.random.default_rng(0)), density=density)
    settings = dataclasses.replace(PLAIN, defocus=6.0, defocus_deviation=0.0, correction="none")
    values = image_scene(point, settings, np.random.default_rng(0)).values
    spectrum = np.abs(np.fft.rfft2(values[16]))[:, 0][: 96 // 2]
    transfer = np.abs(contrast_transfer(6.0, settings, (96, 96), VOXEL)[:48, 0])
    zero = 5 + int(np.argmin(transfer[5:40]))
    assert spectrum[zero] < 0.15 * spectrum[5:zero].max()


def test_late_tilts_lose_fine_detail_to_the_dose(scene):
    from tomoseg.simulate.imaging import _Transfer

    tilts = choose_tilts(ImagingConfig(), np.random.default_rng(0))
    transfer = _Transfer(
        ImagingConfig(dose=120.0), tilts, (64, 80), VOXEL, np.random.default_rng(0)
    )
    first, last = transfer.damage[len(tilts) // 2], transfer.damage[-1]
    assert first[0, 0] > 0.99
    assert last[0, 0] > 0.9
    assert first[32, 0] > 0.9
    assert last[32, 0] < 0.5


def test_missing_tilts_are_left_out():
    config = ImagingConfig(missing_tilts=0.3)
    tilts = choose_tilts(config, np.random.default_rng(0))
    assert 20 < len(tilts) < 38
    assert np.isin(tilts, np.arange(-60, 61, 3)).all()


def test_same_chance_same_bits(scene):
    first, second = (
        image_scene(scene, ImagingConfig(), np.random.default_rng(3)).values for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [({"tilt_max": 95.0}, "tilts"), ({"snr": 0.0}, "snr"), ({"filter": "cosine"}, "hamming")],
)
def test_settings_that_make_no_sense_are_refused(wrong, word):
    with pytest.raises(RequestError, match=word):
        ImagingConfig(**wrong)
