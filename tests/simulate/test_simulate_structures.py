"""Structures: sites where the atoms or the density are, whatever the source."""

import gzip
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mrcfile
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import ndimage
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from tomoseg.errors import InputError, RequestError
from tomoseg.simulate.structures import SPLITS, Structure, load_library, load_structure, procedural
from tomoseg.simulate.structures.families import FAMILIES, Family
from tomoseg.simulate.structures.shapes import SITE_MASS

# name, element, residue, number, x, y, z
ATOMS = [
    ("N", "N", "ALA", 1, 0.0, 0.0, 0.0),
    ("CA", "C", "ALA", 1, 1.4, 0.2, 0.1),
    ("CB", "C", "ALA", 1, 2.0, 1.4, -0.5),
    ("C", "C", "ALA", 1, 1.9, -1.0, 0.9),
    ("O", "O", "ALA", 1, 3.1, -1.2, 1.0),
    ("N", "N", "GLY", 2, 5.0, 3.0, 8.0),
    ("CA", "C", "GLY", 2, 6.2, 3.4, 8.6),
    ("C", "C", "GLY", 2, 7.1, 2.2, 9.2),
    ("O", "O", "GLY", 2, 6.7, 1.1, 9.9),
]
HYDROGEN = ("H", "H", "GLY", 2, 90.0, 90.0, 90.0)
WATER = ("O", "O", "HOH", 3, -50.0, 40.0, 30.0)
DALTON = {"C": 12.011, "N": 14.007, "O": 15.999}
RESIDUE_DALTON = {"ALA": 71.08, "GLY": 57.05}
AXIS_XY = (10.0, -4.0)
"""Where the two-fold axis, parallel to z, meets the plane z = 0."""


def expected_sites(*, assembly: bool) -> tuple[np.ndarray, np.ndarray]:
    """Centres of mass (z, y, x) of the residues of ATOMS and its copy, and their masses."""
    sites, masses = [], []
    for residue, mass in RESIDUE_DALTON.items():
        atoms = [atom for atom in ATOMS if atom[2] == residue]
        weights = np.array([DALTON[atom[1]] for atom in atoms])
        x, y, z = (np.average([atom[i] for atom in atoms], weights=weights) for i in (4, 5, 6))
        sites.append((z, y, x))
        masses.append(mass)
        if assembly:
            sites.append((z, 2 * AXIS_XY[1] - y, 2 * AXIS_XY[0] - x))
            masses.append(mass)
    table = np.array(sites)
    return table - np.average(table, axis=0, weights=masses), np.array(masses)


def pdb_text(atoms: list[tuple[Any, ...]], *, assembly: bool) -> str:
    remarks = [
        "REMARK 350 BIOMOLECULE: 1",
        "REMARK 350 APPLY THE FOLLOWING TO CHAINS: A",
        "REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000",
        "REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000",
        "REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000",
        f"REMARK 350   BIOMT1   2 -1.000000  0.000000  0.000000     {2 * AXIS_XY[0]:10.5f}",
        f"REMARK 350   BIOMT2   2  0.000000 -1.000000  0.000000     {2 * AXIS_XY[1]:10.5f}",
        "REMARK 350   BIOMT3   2  0.000000  0.000000  1.000000        0.00000",
    ]
    lines = [
        f"ATOM  {serial:5d}  {name:<3} {residue:>3} A{number:4d}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {element:>2}"
        for serial, (name, element, residue, number, x, y, z) in enumerate(atoms, 1)
    ]
    return "\n".join([*(remarks if assembly else []), *lines, "END", ""])


def cif_text(atoms: list[tuple[Any, ...]], *, assembly: bool) -> str:
    description = f"""
loop_
_pdbx_struct_assembly.id
_pdbx_struct_assembly.details
_pdbx_struct_assembly.method_details
_pdbx_struct_assembly.oligomeric_details
_pdbx_struct_assembly.oligomeric_count
1 author_defined_assembly ? dimeric 2
_pdbx_struct_assembly_gen.assembly_id 1
_pdbx_struct_assembly_gen.oper_expression 1,2
_pdbx_struct_assembly_gen.asym_id_list A,B
loop_
_pdbx_struct_oper_list.id
_pdbx_struct_oper_list.type
_pdbx_struct_oper_list.matrix[1][1]
_pdbx_struct_oper_list.matrix[1][2]
_pdbx_struct_oper_list.matrix[1][3]
_pdbx_struct_oper_list.vector[1]
_pdbx_struct_oper_list.matrix[2][1]
_pdbx_struct_oper_list.matrix[2][2]
_pdbx_struct_oper_list.matrix[2][3]
_pdbx_struct_oper_list.vector[2]
_pdbx_struct_oper_list.matrix[3][1]
_pdbx_struct_oper_list.matrix[3][2]
_pdbx_struct_oper_list.matrix[3][3]
_pdbx_struct_oper_list.vector[3]
1 'identity operation' 1 0 0 0 0 1 0 0 0 0 1 0
2 'point symmetry operation' -1 0 0 {2 * AXIS_XY[0]} 0 -1 0 {2 * AXIS_XY[1]} 0 0 1 0
"""
    columns = (
        "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id "
        "label_entity_id label_seq_id Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv "
        "auth_seq_id auth_asym_id pdbx_PDB_model_num"
    )
    rows = [
        f"ATOM {serial} {element} {name} . {residue} {'B' if residue == 'HOH' else 'A'} 1 {number} "
        f"{x} {y} {z} 1.0 0.0 {number} A 1"
        for serial, (name, element, residue, number, x, y, z) in enumerate(atoms, 1)
    ]
    header = ["loop_", *(f"_atom_site.{column}" for column in columns.split())]
    return "\n".join(["data_TINY", description if assembly else "", *header, *rows, ""])


def write(path: Path, text: str) -> str:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def assert_sites(structure: Structure, sites: np.ndarray, masses: np.ndarray) -> None:
    """Compare sites whatever their order."""
    assert structure.sites_zyx.dtype == structure.masses.dtype == np.float32
    got = np.lexsort(structure.sites_zyx.round(2).T)
    wanted = np.lexsort(sites.round(2).T)
    assert_allclose(structure.sites_zyx[got], sites[wanted], atol=2e-3)
    assert_allclose(structure.masses[got], masses[wanted], atol=0.02)


def assert_centred(structure: Structure) -> None:
    centre = np.average(structure.sites_zyx.astype(float), axis=0, weights=structure.masses)
    assert_allclose(centre, 0, atol=1e-3)


def blob_map(
    path: Path, *, sigma: float = 20.0, voxel: float = 4.0, noise: float = 0.0, sign: float = 1.0
) -> str:
    """Write a Gaussian ball, off the centre of its box; `sigma` and `voxel` in angstrom."""
    shape = tuple(int(sigma * 9 / voxel) + extra for extra in (0, 3, 6))
    middle = [side / 2 + 1.3 for side in shape]
    squares = sum(
        ((axis - centre) * voxel) ** 2
        for axis, centre in zip(np.indices(shape), middle, strict=True)
    )
    density = np.exp(-squares / (2 * sigma**2))
    density += noise * np.random.default_rng(0).normal(size=shape)
    with mrcfile.new(path) as file:
        file.set_data((sign * density).astype(np.float32))
        file.voxel_size = voxel
    return str(path)


def gyration_radius(structure: Structure) -> float:
    squares = (structure.sites_zyx.astype(float) ** 2).sum(axis=1)
    return float(np.sqrt(np.average(squares, weights=structure.masses)))


class TestCoordinates:
    @pytest.fixture(autouse=True)
    def _gemmi(self) -> None:
        pytest.importorskip("gemmi")

    @pytest.mark.parametrize("assembly", [True, False])
    @pytest.mark.parametrize(
        ("name", "text_of"),
        [("a.pdb", pdb_text), ("b.ent.gz", pdb_text), ("c.cif", cif_text), ("d.CIF.gz", cif_text)],
    )
    def test_residues_become_centred_sites(
        self, tmp_path: Path, name: str, text_of: Callable[..., str], assembly: bool
    ) -> None:
        source = write(tmp_path / name, text_of([*ATOMS, HYDROGEN, WATER], assembly=assembly))
        structure = load_structure(source)
        assert_sites(structure, *expected_sites(assembly=assembly))
        assert_centred(structure)
        assert structure.name == name[0]
        assert structure.split == ""
        assert structure.mass == pytest.approx((128.13) * (1 + assembly), abs=0.05)

    def test_of_alternative_conformations_the_first_counts(self, tmp_path: Path) -> None:
        second = pdb_text([(*ATOMS[-1][:4], 60.0, 60.0, 60.0)], assembly=False)
        plain = pdb_text(ATOMS, assembly=False).removesuffix("END\n")
        first = plain.replace("O   GLY", "O  AGLY")
        text = first + second.replace("O   GLY", "O  BGLY")
        structure = load_structure(write(tmp_path / "a.pdb", text))
        assert_sites(structure, *expected_sites(assembly=False))

    def test_an_alpha_carbon_weighs_as_its_residue(self, tmp_path: Path) -> None:
        alphas = [atom for atom in ATOMS if atom[0] == "CA"]
        structure = load_structure(write(tmp_path / "a.pdb", pdb_text(alphas, assembly=False)))
        assert_allclose(sorted(structure.masses), sorted(RESIDUE_DALTON.values()), atol=0.02)

    def test_an_unknown_ligand_weighs_its_atoms(self, tmp_path: Path) -> None:
        ligand = [("C1", "C", "QQQ", 5, 1.0, 1.0, 1.0), ("O1", "O", "QQQ", 5, 2.0, 1.0, 1.0)]
        text = pdb_text([*ATOMS, *ligand], assembly=False)
        structure = load_structure(write(tmp_path / "a.pdb", text))
        assert structure.masses.min() == pytest.approx(12.011 + 15.999, abs=0.01)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("empty.pdb", ""),
            ("empty.cif", ""),
            ("prose.pdb", "this is no structure\n"),
            ("prose.cif", "this is no structure\n"),
            ("waters.pdb", pdb_text([WATER, (*WATER[:3], 4, 1.0, 2.0, 3.0)], assembly=False)),
            ("component.cif", "data_ALA\n_chem_comp.id ALA\n"),
            ("shifted.pdb", pdb_text(ATOMS, assembly=False).replace(" A ", "   A   ")),
            ("torn.cif", cif_text([*ATOMS, WATER], assembly=True).replace("A,B", "A,C")),
            ("unknown.cif", cif_text([(*ATOMS[0][:6], "?")], assembly=False)),
        ],
    )
    def test_what_is_no_structure_is_refused(self, tmp_path: Path, name: str, text: str) -> None:
        with pytest.raises(InputError, match=name):
            load_structure(write(tmp_path / name, text))

    def test_a_file_that_is_not_compressed_as_it_says_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "torn.pdb.gz"
        path.write_bytes(gzip.compress(pdb_text(ATOMS, assembly=False).encode())[:60])
        with pytest.raises(InputError, match="torn"):
            load_structure(str(path))

    def test_settings_of_maps_are_refused(self, tmp_path: Path) -> None:
        source = write(tmp_path / "a.pdb", pdb_text(ATOMS, assembly=False))
        with pytest.raises(RequestError, match="density maps"):
            load_structure(source, mass_kda=100)


def test_without_gemmi_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gemmi", None)
    source = write(tmp_path / "a.pdb", pdb_text(ATOMS, assembly=False))
    with pytest.raises(RequestError, match=r"pip install 'tomoseg\[simulate\]'"):
        load_structure(source)


@pytest.mark.parametrize("source", ["nowhere.pdb", "4V5A5", "0ABC", ""])
def test_what_is_neither_file_nor_entry_is_refused(source: str) -> None:
    with pytest.raises(InputError, match=r"neither|folder"):
        load_structure(source)


class TestMaps:
    @pytest.mark.parametrize("voxel", [4.0, 1.9])
    def test_a_gaussian_ball_keeps_its_radius_of_gyration(
        self, tmp_path: Path, voxel: float
    ) -> None:
        source = blob_map(tmp_path / "ball.mrc", sigma=12.0, voxel=voxel)
        structure = load_structure(source, threshold=1e-3, mass_kda=250)
        assert gyration_radius(structure) == pytest.approx(12 * np.sqrt(3), rel=0.03)
        assert structure.mass == pytest.approx(250e3, rel=1e-5)
        assert_centred(structure)
        assert cKDTree(structure.sites_zyx).query(structure.sites_zyx, k=2)[0][:, 1].max() < 4.5

    @pytest.mark.parametrize("noise", [0.0, 0.1])
    def test_by_default_the_particle_is_what_stands_out(self, tmp_path: Path, noise: float) -> None:
        structure = load_structure(blob_map(tmp_path / "ball.mrc", noise=noise))
        radius_at = 20 * np.sqrt(2 * np.log(1 / np.array([0.5, 0.2])))
        smallest, largest = 4 / 3 * np.pi * radius_at**3 / 1.21
        assert smallest < structure.mass < largest
        assert structure.radius < 45  # no speck of noise

    def test_the_axes_stay_in_order(self, tmp_path: Path) -> None:
        density = np.zeros((12, 10, 14), np.float32)
        density[2:10, 4, 7] = 1
        with mrcfile.new(tmp_path / "stick.mrc") as file:
            file.set_data(density)
            file.voxel_size = (5, 6, 7)
        extent = np.ptp(load_structure(str(tmp_path / "stick.mrc")).sites_zyx, axis=0)
        assert_allclose(extent, (7 * 7, 0, 0), atol=1e-3)

    def test_a_dark_particle_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="Invert"):
            load_structure(blob_map(tmp_path / "dark.mrc", sign=-1))

    @pytest.mark.parametrize("threshold", [-1.0, 5.0, np.nan])
    def test_a_threshold_beyond_the_densities_is_refused(
        self, tmp_path: Path, threshold: float
    ) -> None:
        with pytest.raises(InputError, match="threshold"):
            load_structure(blob_map(tmp_path / "ball.mrc"), threshold=threshold)

    def test_an_empty_map_is_refused(self, tmp_path: Path) -> None:
        with mrcfile.new(tmp_path / "flat.mrc") as file:
            file.set_data(np.zeros((8, 8, 8), np.float32))
            file.voxel_size = 4
        with pytest.raises(InputError, match="no particle"):
            load_structure(str(tmp_path / "flat.mrc"))

    def test_a_voxel_size_that_the_file_lacks_can_be_given(self, tmp_path: Path) -> None:
        source = blob_map(tmp_path / "ball.mrc")
        with mrcfile.open(source, mode="r+") as file:
            file.voxel_size = 0
        with pytest.raises(InputError, match="voxel size"):
            load_structure(source)
        structure = load_structure(source, threshold=1e-3, voxel_size_angstrom=8)
        assert gyration_radius(structure) == pytest.approx(2 * 20 * np.sqrt(3), rel=0.03)

    @pytest.mark.parametrize("mass_kda", [0, -3, np.nan, np.inf])
    def test_a_mass_that_is_none_is_refused(self, tmp_path: Path, mass_kda: float) -> None:
        with pytest.raises(RequestError, match="mass_kda"):
            load_structure(blob_map(tmp_path / "ball.mrc"), mass_kda=mass_kda)


class TestEntries:
    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("gemmi")
        monkeypatch.setenv("TOMOSEG_CACHE", str(tmp_path / "cache"))

    @staticmethod
    def serve(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str, Any], None]) -> None:
        """Answer downloads by calling `answer` with the URL and the file to write."""
        pooch = pytest.importorskip("pooch")

        def download(_: Any, url: str, output_file: Any, *rest: Any, **more: Any) -> None:
            answer(url, output_file)

        monkeypatch.setattr(pooch.HTTPDownloader, "__call__", download)

    @pytest.mark.parametrize("status", [None, 404, 503])
    def test_what_cannot_be_fetched_leaves_two_ways_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int | None
    ) -> None:
        requests = pytest.importorskip("requests")

        def fail(url: str, file: Any) -> None:
            if status is None:
                raise requests.ConnectionError("a long story")
            raise requests.HTTPError(response=SimpleNamespace(status_code=status))

        self.serve(monkeypatch, fail)
        with pytest.raises(InputError) as caught:
            load_structure("9zzz")
        reason = {None: "cannot be reached", 404: "no such entry", 503: "503"}[status]
        assert reason in caught.value.message
        assert "Give a PDB, mmCIF or MRC file" in caught.value.hint
        assert str(tmp_path / "cache" / "9ZZZ.cif.gz") in caught.value.hint
        assert not list((tmp_path / "cache").glob("*.gz"))

    def test_a_fetched_entry_is_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def answer(url: str, file: Any) -> None:
            asked.append(url)
            Path(file).write_bytes(gzip.compress(cif_text([*ATOMS, WATER], assembly=True).encode()))

        self.serve(monkeypatch, answer)
        for source in ("1abc", "1ABC"):
            structure = load_structure(source)
            assert_sites(structure, *expected_sites(assembly=True))
            assert structure.name == "1ABC"
        assert asked == ["https://files.rcsb.org/download/1ABC.cif.gz"]

    def test_a_cached_entry_needs_neither_network_nor_pooch(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pooch", None)
        (tmp_path / "cache").mkdir()
        write(tmp_path / "cache" / "2XYZ.cif.gz", cif_text(ATOMS, assembly=False))
        assert_sites(load_structure("2xyz"), *expected_sites(assembly=False))


class TestLibrary:
    @staticmethod
    def write(folder: Path, index: str = "id\tsplit\nA\ttrain\nB\ttest\n", **arrays: Any) -> Path:
        models = {
            "A_xyz": np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 3.0]]),
            "A_mass": np.array([100.0, 300.0]),
            "B_xyz": np.zeros((1, 3)),
            "B_mass": np.ones(1),
        }
        models.update(arrays)
        (folder / "index.tsv").write_text(index)
        np.savez(folder / "models.npz", **{k: v for k, v in models.items() if v is not None})
        return folder

    def test_splits_are_disjoint_and_complete(self, shared_data: Path) -> None:
        folder = shared_data / "structures"
        names = {split: {s.name for s in load_library(folder, split)} for split in SPLITS}
        assert {split: len(them) for split, them in names.items()} == {
            "train": 63,
            "validation": 10,
            "test": 17,
        }
        everything = load_library(folder, None)
        assert names["train"] | names["validation"] | names["test"] == {s.name for s in everything}
        assert len(everything) == 90
        for structure in everything:
            assert structure.name in names[structure.split]
            assert_centred(structure)

    def test_axes_are_reversed_and_sites_centred(self, tmp_path: Path) -> None:
        (structure,) = load_library(self.write(tmp_path), "train")
        assert_allclose(structure.sites_zyx, [[0, 0, -1.5], [0, 0, 0.5]], atol=1e-6)
        assert (structure.mass, structure.radius) == (400.0, 1.5)

    def test_an_unknown_split_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="train, validation, test"):
            load_library(self.write(tmp_path), "training")

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"index\.tsv"):
            load_library(tmp_path, None)
        (self.write(tmp_path) / "models.npz").unlink()
        with pytest.raises(InputError, match=r"models\.npz"):
            load_library(tmp_path, None)

    @pytest.mark.parametrize(
        ("arrays", "complaint"),
        [
            ({"A_mass": None}, "no array A_mass"),
            ({"A_xyz": np.zeros((4, 3))}, "of A"),
            ({"B_xyz": np.zeros((0, 3)), "B_mass": np.zeros(0)}, "of B"),
            ({"A_mass": np.array([{}, {}], dtype=object)}, "cannot be read"),
        ],
    )
    def test_a_broken_array_is_named(
        self, tmp_path: Path, arrays: dict[str, Any], complaint: str
    ) -> None:
        with pytest.raises(InputError, match=complaint):
            load_library(self.write(tmp_path, **arrays), None)

    @pytest.mark.parametrize("index", ["name\tset\nA\ttrain\n", "id\tsplit\nA\tdev\n"])
    def test_a_broken_index_is_refused(self, tmp_path: Path, index: str) -> None:
        with pytest.raises(InputError, match=r"index\.tsv.*expected"):
            load_library(self.write(tmp_path, index), None)

    def test_a_file_of_something_else_is_refused(self, tmp_path: Path) -> None:
        (self.write(tmp_path) / "models.npz").write_text("no arrays")
        with pytest.raises(InputError, match=r"models\.npz"):
            load_library(tmp_path, None)


class TestProcedural:
    def test_the_same_seed_gives_the_same_complexes_however_many(self) -> None:
        few, more, other = procedural(2, 1), procedural(3, 1), procedural(2, 2)
        for one, two in zip(few, more[:2], strict=True):
            assert one.name == two.name
            assert np.array_equal(one.sites_zyx, two.sites_zyx)
            assert np.array_equal(one.masses, two.masses)
        assert len({structure.name for structure in more}) == 3
        assert other[0].sites_zyx.shape != few[0].sites_zyx.shape

    def test_masses_spread_from_small_proteins_to_capsids(self) -> None:
        structures = procedural(12, 0)
        masses = np.array([structure.mass for structure in structures])
        assert masses.min() > 55e3
        assert masses.max() < 5e6
        assert (masses < 300e3).sum() >= 3
        assert (masses > 1e6).sum() >= 3
        for structure in structures:
            assert_centred(structure)
            assert len(structure.masses) < 42_000
            assert structure.split == ""

    @pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
    def test_each_family_is_one_piece_at_the_density_of_protein(self, family: Family) -> None:
        for seed in range(3):
            wanted = max(family.lightest, 100e3)
            sites, masses = family.make(np.random.default_rng(seed), round(wanted / SITE_MASS))
            assert masses.sum() == pytest.approx(wanted, rel=0.05)
            tree = cKDTree(sites)
            assert tree.query(sites, k=2)[0][:, 1].min() > 2.4
            touching = tree.sparse_distance_matrix(tree, 9.0, output_type="coo_matrix")
            _, pieces = connected_components(touching)
            assert np.bincount(pieces).max() > 0.97 * len(sites)
            # real complexes of the Protein Data Bank have 0.53 to 0.63
            assert 0.4 < masses.sum() / volume_of_balls(sites, radius=5.0) < 0.95

    @pytest.mark.parametrize(("count", "seed"), [(-1, 0), (1, -1)])
    def test_negative_numbers_are_refused(self, count: int, seed: int) -> None:
        with pytest.raises(RequestError, match="at least 0"):
            procedural(count, seed)

    def test_none_is_an_empty_list(self) -> None:
        assert procedural(0, 5) == []


def volume_of_balls(sites: np.ndarray, *, radius: float, step: float = 2.5) -> float:
    """Volume of the union of balls around the sites, counted on a grid."""
    corner = sites.min(axis=0) - radius - step
    cells = np.round((sites - corner) / step).astype(int)
    empty = np.ones(cells.max(axis=0) + int(radius / step) + 2, bool)
    empty[tuple(cells.T)] = False
    near = ndimage.distance_transform_edt(empty, sampling=step) <= radius
    return float(near.sum() * step**3)
