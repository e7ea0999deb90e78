"""Scenes: who is where, and that the truth says so."""

import numpy as np
import pytest

from tomoseg.simulate.density import (
    PROTEIN_EXCESS,
    blur_sigma,
    random_rotation,
    render,
    rotation_between,
)
from tomoseg.simulate.filaments import ACTIN, MICROTUBULE, decorate
from tomoseg.simulate.membranes import HALF_THICKNESS, sheet, vesicle
from tomoseg.simulate.scene import Kind, SceneConfig, build_scene
from tomoseg.simulate.structures import procedural

STRUCTURES = procedural(8, 2)


def scene_of(seed: int = 0, **settings):
    config = SceneConfig(**{"shape": (64, 80, 80), **settings})
    return build_scene(config, STRUCTURES, np.random.default_rng(seed))


def test_rendering_keeps_mass_and_place():
    random = np.random.default_rng(0)
    sites = random.normal((20, 30, 40), 3, (200, 3))
    masses = random.uniform(50, 150, 200)
    patch = render(sites, masses, voxel_size_angstrom=10.0, sigma_angstrom=9.0)
    assert patch.density.sum() * 1000 == pytest.approx(masses.sum() * PROTEIN_EXCESS, rel=1e-3)
    grid = np.indices(patch.density.shape).reshape(3, -1)
    centre = (grid * patch.density.ravel()).sum(axis=1) / patch.density.sum() + patch.corner
    expected = (sites * masses[:, None]).sum(axis=0) / masses.sum()
    np.testing.assert_allclose(centre, expected, atol=0.01)


def test_a_site_has_the_width_that_was_asked_for():
    patch = render(
        np.array([[0.3, 0.0, 0.5]]), np.ones(1), voxel_size_angstrom=5.0, sigma_angstrom=15.0
    )
    z = np.arange(patch.density.shape[0]) + patch.corner[0] - 0.3
    profile = patch.density.sum(axis=(1, 2))
    assert np.sqrt((profile * z**2).sum() / profile.sum()) * 5 == pytest.approx(15.0, rel=0.03)


def test_truth_is_where_its_complex_is():
    scene = scene_of(crowding=0.15, vesicles=0, filaments=0, beads=0)
    by_name = {s.name: s for s in STRUCTURES}
    complexes = [p for p in scene.particles if p.kind == Kind.COMPLEX]
    assert len(complexes) > 5
    sigma = blur_sigma(scene.config.resolution_angstrom)
    for particle in complexes:
        structure = by_name[particle.name]
        sites = structure.sites_zyx @ particle.rotation.T / 10.0 + particle.centre_zyx
        patch = render(sites, structure.masses, voxel_size_angstrom=10.0, sigma_angstrom=sigma)
        voxels = np.argwhere(patch.mask) + patch.corner
        inside = ((voxels >= 0) & (voxels < scene.density.shape)).all(axis=1)
        # no overlap: each voxel of a complex's own mask is its own
        owners = scene.instances[tuple(voxels[inside].T)]
        assert (owners == particle.instance).mean() > 0.999


def test_crowding_is_reached_where_it_fits():
    scene = scene_of(crowding=0.12, thickness=1.0, vesicles=0, filaments=0, beads=0)
    assert (scene.classes == Kind.COMPLEX).mean() == pytest.approx(0.12, abs=0.04)


def test_objects_lie_in_the_slab():
    scene = scene_of(crowding=0.2, thickness=0.5, vesicles=0, filaments=0, beads=0, texture=0.0)
    occupied = np.flatnonzero(scene.salient.any(axis=(1, 2)))
    assert occupied.min() >= 15
    assert occupied.max() <= 49


@pytest.mark.parametrize("seed", range(3))
def test_carbon_reaches_in_from_outside_and_is_not_salient(seed):
    scene = scene_of(seed, crowding=0.1, vesicles=0, filaments=0, beads=0, carbon=True)
    carbon = scene.classes == Kind.CARBON
    assert 0.005 < carbon.mean() < 0.25
    edge = np.ones(carbon.shape[1:], bool)
    edge[1:-1, 1:-1] = False
    assert (carbon.any(axis=0) & edge).any()  # a film, not an island
    assert not carbon.all(axis=0).any()
    assert not scene.salient[carbon].any()
    assert scene.gold[carbon].mean() > 0.3
    assert scene.density[~scene.salient.astype(bool)].mean() < 0.05  # it is not in the signal


def test_beads_are_dense_and_not_salient():
    scene = scene_of(crowding=0.0, vesicles=0, filaments=0, beads=4)
    beads = scene.classes == Kind.GOLD
    assert beads.any()
    assert not scene.salient.any()
    assert scene.gold[beads].mean() > 3
    assert not scene.density.any()


def test_an_empty_scene_is_empty():
    scene = scene_of(crowding=0.0, vesicles=0, filaments=0, beads=0)
    assert not scene.classes.any()
    assert not scene.particles


def test_instances_and_particles_agree():
    scene = scene_of(3, crowding=0.1, vesicles=2, filaments=3, sheets=1, beads=1)
    assert {p.instance for p in scene.particles} >= set(np.unique(scene.instances)) - {0}
    np.testing.assert_array_equal(scene.instances > 0, scene.classes > 0)
    kinds = {p.instance: p.kind for p in scene.particles}
    for instance in np.unique(scene.instances)[1:]:
        assert (scene.classes[scene.instances == instance] == kinds[instance]).all()


def test_membrane_proteins_sit_in_the_membrane():
    scene = scene_of(
        1, crowding=0.1, vesicles=0, sheets=1, filaments=0, beads=0, membrane_proteins=1.0
    )
    near = scene.classes == Kind.MEMBRANE
    complexes = [p for p in scene.particles if p.kind == Kind.COMPLEX]
    assert complexes
    where = np.argwhere(near)
    for particle in complexes:
        distance = np.linalg.norm(where - particle.centre_zyx, axis=1).min()
        assert distance < 12


def test_a_vesicle_is_as_thick_as_a_bilayer():
    random = np.random.default_rng(0)
    made = vesicle(random, (96, 96, 96), voxel_size_angstrom=8.0, radius_angstrom=200, roughness=0)
    assert made is not None
    density = made.density(5.0, 0.25)
    assert density[made.mask].mean() > 10 * abs(density[~made.mask]).mean()
    area = made.mask.sum() * 8.0**3 / (2 * HALF_THICKNESS)
    assert 0.4 < area / (4 * np.pi * 200**2) < 1.7


def test_a_sheet_measures_angstrom():
    made = sheet(np.random.default_rng(1), (64, 64, 64), voxel_size_angstrom=10.0, roughness=0.0)
    slope = np.sqrt(sum(g**2 for g in np.gradient(made.distance.astype(float))))
    near = np.abs(made.distance) < 200
    assert slope[near].mean() == pytest.approx(10.0, rel=0.02)


def test_a_microtubule_has_13_protofilaments():
    axis = np.stack([np.zeros(200), np.zeros(200), np.arange(200) * 10.0], axis=1)
    sites, masses = decorate(np.random.default_rng(0), axis, MICROTUBULE)
    radius = np.hypot(sites[:, 0], sites[:, 1])
    assert radius.mean() == pytest.approx(112, abs=6)
    angle = np.arctan2(sites[:, 0], sites[:, 1])
    strength = [abs(np.exp(1j * k * angle).mean()) for k in range(1, 16)]
    assert int(np.argmax(strength)) + 1 == 13
    # 13 monomers of 50 kDa every 40.5 A
    assert masses.sum() == pytest.approx(13 * 50_000 * 1990 / 40.5, rel=0.02)


def test_actin_is_as_heavy_as_it_should():
    axis = np.stack([np.zeros(100), np.zeros(100), np.arange(100) * 10.0], axis=1)
    sites, masses = decorate(np.random.default_rng(0), axis, ACTIN)
    assert masses.sum() == pytest.approx(42_000 * 990 / 27.5, rel=0.03)
    assert np.hypot(sites[:, 0], sites[:, 1]).max() < 60


@pytest.mark.parametrize("seed", range(4))
def test_rotations_are_rotations(seed):
    random = np.random.default_rng(seed)
    a, b = (v / np.linalg.norm(v) for v in random.normal(size=(2, 3)))
    for matrix in (random_rotation(random), rotation_between(a, b), rotation_between(a, -a)):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(matrix) == pytest.approx(1.0)
    np.testing.assert_allclose(rotation_between(a, b) @ a, b, atol=1e-9)


def test_same_chance_same_bits():
    first, second = (scene_of(9, crowding=0.1) for _ in range(2))
    np.testing.assert_array_equal(first.density, second.density)
    np.testing.assert_array_equal(first.instances, second.instances)
