"""What a run is asked to do, as frozen values validated once; the only home of defaults.

Knows no files, no arrays and no libraries: the command line builds these from flags,
environment and TOML, everything below only reads them.
"""

import dataclasses
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypedDict, Unpack, get_args

from tomoseg.errors import FingerprintError, RequestError, printable

BLOCK = 64
"""Edge of a block in voxels: the Zarr chunk and the unit of refinement."""

CORE = 128
"""Edge in voxels of what a window decides: in windows that are smaller, what fills one whole,
the inside of a virion say, has nothing to stand out from (docs/decisions/006)."""

STRIDE = 16
"""Stride of the network at its deepest level: windows are multiples of it."""

Scope = Literal["none", "volume", "block"]
Rule = Literal["teacher", "majority", "prior"]
Contrast = Literal["dark", "light"]
Unify = Literal["supervoxels", "continuity"]
ContrastRequest = Literal["dark", "light", "auto"]
Resample = Literal["auto", "never"]
OutputGrid = Literal["input", "model"]
OmeVersion = Literal["0.5", "0.4"]
Precision = Literal["float32", "bfloat16"]
Looks = Literal["1", "2", "all"]
LooksRequest = Literal["auto", Looks]
Split = Literal["none", "distance", "saliency"]
Connectivity = Literal[26, 18, 6]
Centre = Literal["half", "half-minus-one"]
ParticleFormat = Literal[
    "relion4", "relion5", "warp", "dynamo", "portal", "copick", "imod", "csv", "parquet"
]

PARTICLE_SUFFIXES: dict[str, ParticleFormat] = {
    ".star": "relion4",
    ".tbl": "dynamo",
    ".ndjson": "portal",
    ".json": "copick",
    ".txt": "imod",
    ".csv": "csv",
    ".parquet": "parquet",
}
"""Format of a file of particles whose name says none."""


def _require(condition: bool, what: str, expected: object, got: object) -> None:
    if not condition:
        if isinstance(expected, tuple):
            expected = " or ".join(map(str, expected))
        raise RequestError(f"{what}: expected {expected}, got {got}.")


@dataclass(frozen=True)
class Lessons:
    """How much is learnt: gradient steps, the windows that each of them sees, and the rate."""

    iterations: int
    windows_per_step: int
    learning_rate: float


FEW, MANY = Lessons(12, 2, 3e-4), Lessons(24, 4, 4.2e-4)
"""Of self-training: in a small tomogram, and in one that is large enough for more to cost little
beside it (docs/decisions/003)."""

VOTES = Lessons(12, 1, 0.2)
"""Of Algorithm 1."""


@dataclass(frozen=True)
class RefineConfig:
    """Refinement by backpropagation on the tomogram itself.

    Two methods: Algorithm 1 of PUB-SalNet, whose many labels are voted on in supervoxels
    (rules ``majority`` and ``prior``), and self-training, in which the network learns what
    its own views of the tomogram agree on (rule ``teacher``).

    Parameters
    ----------
    scope
        ``none``: the network as it was loaded. ``volume``: one set of weights refined on
        a seeded sample of blocks and applied to all. ``block``: refined anew for every
        block, from the same starting weights (the paper's form).
    rule
        What is salient at the end. ``teacher``: what the network, trained further, says.
        ``majority``: all labels but the most frequent (the paper's). ``prior``: labels over
        which the unrefined network's mean saliency is at least one half.
    unify
        What draws labels together in Algorithm 1: the vote in ``supervoxels`` (Kanezaki,
        ICASSP 2018), or a loss of ``continuity`` between neighbours (Kim, Kanezaki and
        Tanaka, TIP 2020).
    classes
        Initial number of classes of the response map of Algorithm 1.
    iterations
        Gradient steps at most, in all; None to have `lessons` choose.
    windows_per_step
        What each of them sees under ``teacher``, or None; Algorithm 1 sees one.
    supervoxel_edge
        Edge in voxels of the lattice of supervoxel seeds; for alignment between
        neighbouring windows, and speed, it divides the halo and the block: 1, 2, 4, 8 or 16.
    compactness
        SLIC's weight of distance against intensity, where intensities are in robust
        standard deviations of the whole volume.
    sigma
        Gaussian smoothing in voxels before SLIC.
    learning_rate
        Of the descent (Adam under ``teacher``, else with momentum), or None.
    momentum
        Of Algorithm 1.
    sharpness
        Exponent that moves the teacher's saliency away from one half.
    supervoxel_weight
        Share of the mean over the supervoxel in the teacher's target; 0 leaves them out.
    min_labels
        Refinement stops when so few labels are left.
    tolerance
        Refinement stops when over `patience` steps in a row less than this fraction of
        the voxels changed their label.
    patience
        See `tolerance`.
    sample_blocks
        Blocks that scope ``volume`` is refined on, at most.
    """

    scope: Scope = "volume"
    rule: Rule = "teacher"
    unify: Unify = "supervoxels"
    classes: int = 16
    iterations: int | None = None
    windows_per_step: int | None = None
    supervoxel_edge: int = 4
    compactness: float = 2.0
    sigma: float = 1.0
    learning_rate: float | None = None
    momentum: float = 0.9
    sharpness: float = 1.5
    supervoxel_weight: float = 0.0
    min_labels: int = 2
    tolerance: float = 0.002
    patience: int = 5
    sample_blocks: int = 8

    def __post_init__(self) -> None:
        _require(self.scope in get_args(Scope), "scope", get_args(Scope), self.scope)
        _require(self.rule in get_args(Rule), "rule", get_args(Rule), self.rule)
        _require(self.unify in get_args(Unify), "unify", get_args(Unify), self.unify)
        _require(self.classes >= 2, "classes", "at least 2", self.classes)
        for what in ("iterations", "windows_per_step"):
            value = getattr(self, what)
            _require(value is None or value >= 1, what.replace("_", " "), "at least 1", value)
        _require(
            1 <= self.supervoxel_edge <= BLOCK,
            "supervoxel edge",
            f"1 to {BLOCK}",
            self.supervoxel_edge,
        )
        _require(self.compactness > 0, "compactness", "above 0", self.compactness)
        _require(self.sigma >= 0, "sigma", "0 or more", self.sigma)
        _require(
            self.learning_rate is None or self.learning_rate > 0,
            "learning rate",
            "above 0",
            self.learning_rate,
        )
        _require(0 <= self.momentum < 1, "momentum", "0 to below 1", self.momentum)
        _require(self.sharpness > 0, "sharpness", "above 0", self.sharpness)
        _require(
            0 <= self.supervoxel_weight <= 1, "supervoxel weight", "0 to 1", self.supervoxel_weight
        )
        _require(self.min_labels >= 2, "min_labels", "at least 2", self.min_labels)
        _require(self.sample_blocks >= 1, "sample_blocks", "at least 1", self.sample_blocks)

    def lessons(self, by_size: Lessons = FEW) -> Lessons:
        """Return how much is learnt, with what was left to choose chosen.

        Parameters
        ----------
        by_size
            What is chosen for self-training.
        """
        chosen = by_size if self.rule == "teacher" else VOTES
        asked = {f.name: getattr(self, f.name) for f in fields(Lessons)}
        return dataclasses.replace(chosen, **{k: v for k, v in asked.items() if v is not None})


PRESETS: dict[str, RefineConfig] = {
    "default": RefineConfig(),  # one of the next two, by the tomogram's size
    "quick": RefineConfig(**dataclasses.asdict(FEW)),
    "thorough": RefineConfig(**dataclasses.asdict(MANY)),
    # 10000 supervoxels in a 64^3 block are 3^3 cubes at compactness 100; 100 classes;
    # 1000 iterations; the majority is background (facts of the paper).
    "paper": RefineConfig(
        scope="block",
        rule="majority",
        classes=100,
        iterations=1000,
        supervoxel_edge=3,
        compactness=100.0,
        sigma=0.0,
        learning_rate=0.1,
        tolerance=0.0,
    ),
}


def refinement(preset: str, **changes: Any) -> RefineConfig:
    """Return a preset's refinement with single settings changed.

    Raises
    ------
    RequestError
        Where there is no such preset, or its steps and their rate are for another method than
        the rule that is asked for.
    """
    _require(preset in PRESETS, "preset", tuple(PRESETS), preset)
    chosen = PRESETS[preset]
    changed: RefineConfig = dataclasses.replace(chosen, **changes)
    alike = (chosen.rule == "teacher") == (changed.rule == "teacher")
    if not (alike or chosen.learning_rate is None):
        raise RequestError(
            f"preset {preset}: its steps are those of rule {chosen.rule}, got {changed.rule}.",
            "Take the default preset; iterations can be given with it.",
        )
    return changed


@dataclass(frozen=True)
class SegmentConfig:
    """Everything that decides the bits of a saliency volume, and how they are stored.

    Parameters
    ----------
    weights
        Name of shipped weights, path of a ``.safetensors`` file, or ``random:SEED``.
    refine
        See `RefineConfig`.
    looks
        Flips of a window that saliency is the mean of, in log odds (test-time augmentation), each
        as dear as the first: ``1``, the window as it is; ``2``, and its flip along all axes;
        ``all``, eight of a volume. ``auto``: 2 after self-training, else 1.
    precision
        In which windows are computed: ``bfloat16`` holds half as much and is faster where the
        hardware has it; saliency differs by less than a step of 255. Self-training follows it,
        Algorithm 1 stays in float32.
    threshold
        Saliency from which a voxel belongs to the mask.
    contrast
        ``dark``: salient objects are darker than their surroundings (raw cryo-ET
        density); ``light``: brighter; ``auto``: told from the intensities.
    voxel_size_angstrom
        Overrides the header's where given.
    resample
        ``auto``: the network works at the voxel size that it was trained at where the
        input's is more than 15 % off. ``never``: at the input's.
    output_grid
        Where it was resampled, the result lies on the ``input``'s voxels or the ``model``'s.
    core
        Edge in voxels of what a window decides, a multiple of `BLOCK` that divides the shard;
        None for `CORE`, or `BLOCK` in scope ``block``, which refines each core.
    halo
        Voxels of real neighbours around a core, a multiple of half of `STRIDE`; windows are
        blended over them, as far as half a block.
    shard
        Edge of a shard in voxels, a multiple of the core.
    seed
        Of every random choice.
    ome_version
        OME-Zarr version of the output: 0.5 (Zarr v3, sharded) or 0.4 (Zarr v2).
    """

    weights: str = "vnet3d"
    refine: RefineConfig = field(default_factory=RefineConfig)
    looks: LooksRequest = "auto"
    precision: Precision = "float32"
    threshold: float = 0.5
    contrast: ContrastRequest = "dark"
    voxel_size_angstrom: float | None = None
    resample: Resample = "auto"
    output_grid: OutputGrid = "input"
    core: int | None = None
    halo: int = 16
    shard: int = 256
    seed: int = 0
    ome_version: OmeVersion = "0.5"

    def __post_init__(self) -> None:
        _require(0 < self.threshold < 1, "threshold", "between 0 and 1", self.threshold)
        choices: tuple[tuple[str, str, Any], ...] = (
            ("looks", self.looks, LooksRequest),
            ("precision", self.precision, Precision),
            ("contrast", self.contrast, ContrastRequest),
            ("resample", self.resample, Resample),
            ("output grid", self.output_grid, OutputGrid),
            ("OME-Zarr version", self.ome_version, OmeVersion),
        )
        for what, value, kind in choices:
            _require(value in get_args(kind), what, get_args(kind), value)
        _require(
            self.voxel_size_angstrom is None or self.voxel_size_angstrom > 0,
            "voxel size",
            "above 0 angstrom",
            self.voxel_size_angstrom,
        )
        _require(
            self.halo >= 0 and (BLOCK + 2 * self.halo) % STRIDE == 0,
            "halo",
            f"a multiple of {STRIDE // 2}",
            self.halo,
        )
        core = self.core_edge
        _require(core > 0 and core % BLOCK == 0, "core", f"a positive multiple of {BLOCK}", core)
        _require(
            self.shard > 0 and self.shard % core == 0,
            "shard",
            f"a positive multiple of the core of {core}",
            self.shard,
        )
        _require(self.seed >= 0, "seed", "0 or more", self.seed)

    @property
    def core_edge(self) -> int:
        """Edge in voxels of what a window decides."""
        if self.core is not None:
            return self.core
        return BLOCK if self.refine.scope == "block" else CORE

    @property
    def looks_in_use(self) -> Looks:
        """How often a window is looked at."""
        if self.looks != "auto":
            return self.looks
        taught = self.refine.scope != "none" and self.refine.rule == "teacher"
        return "2" if taught else "1"

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SegmentConfig":
        """Return the configuration that `to_dict` wrote.

        Raises
        ------
        FingerprintError
            Where it has a setting that there is none of here.
        """
        given = values.keys() | values["refine"].keys()
        unknown = sorted(given - {f.name for kind in (cls, RefineConfig) for f in fields(kind)})
        if unknown:
            raise FingerprintError(
                f"configuration: of another version of tomoseg; this one has no setting "
                f"{printable(', '.join(unknown))}.",
                "Go on with the version that began the output, or segment anew with --overwrite.",
            )
        return cls(**values | {"refine": RefineConfig(**values["refine"])})


@dataclass(frozen=True)
class PickConfig:
    """What is a particle in a mask; lengths in angstrom, None for no limit.

    Parameters
    ----------
    connectivity
        Neighbours that belong to one component: 26 (faces, edges and corners, as cc3d,
        scikit-image and MATLAB have it), 18 or 6.
    diameter_angstrom
        Of the particles sought: what touching ones are split by, and how near two may be.
    split
        How touching particles are told apart: by maxima of smoothed ``saliency``, or of the
        ``distance`` from the mask's surface; ``none`` leaves components whole. None for
        saliency where there are it and a diameter, for distance where there is a diameter
        alone.
    min_distance_angstrom
        Of two particles nearer than this the better one stays. None for half the diameter:
        objects that do not touch are different ones, and few are as large as the largest.
    min_volume_angstrom3, max_volume_angstrom3
        Cubic angstrom of a particle's voxels.
    min_mass_kda, max_mass_kda
        The same as the mass of protein that fills it, in kilodalton.
    min_diameter_angstrom, max_diameter_angstrom
        Of the ball of a particle's volume.
    min_score
        Mean saliency over a particle, 0 to 1.
    max_elongation
        Longest over shortest principal axis.
    min_fill, max_fill
        Volume over that of the ellipsoid of inertia: little for shells and curved sheets.
        Objects below either are not split.
    drop_border
        Whether particles that touch a face of the volume go.
    shard
        Edge in voxels of what is labelled at once, a multiple of `BLOCK`; decides no particle.
    """

    connectivity: Connectivity = 26
    diameter_angstrom: float | None = None
    split: Split | None = None
    min_distance_angstrom: float | None = None
    min_volume_angstrom3: float | None = None
    max_volume_angstrom3: float | None = None
    min_mass_kda: float | None = None
    max_mass_kda: float | None = None
    min_diameter_angstrom: float | None = None
    max_diameter_angstrom: float | None = None
    min_score: float | None = None
    max_elongation: float | None = None
    min_fill: float | None = None
    max_fill: float | None = None
    drop_border: bool = False
    shard: int = 256

    def __post_init__(self) -> None:
        choices = get_args(Connectivity)
        _require(self.connectivity in choices, "connectivity", choices, self.connectivity)
        _require(
            self.shard >= BLOCK and self.shard % BLOCK == 0,
            "shard",
            f"a positive multiple of {BLOCK}",
            self.shard,
        )
        if self.split not in (None, "none") and self.diameter_angstrom is None:
            raise RequestError(
                f"--split {self.split}: expected a --diameter to split by, got none.",
                "Give the particles' diameter in angstrom, or --split none.",
            )
        for name, value in dataclasses.asdict(self).items():
            if name.startswith(("min_", "max_", "diameter")) and value is not None:
                allowed = value > 0 or (value == 0 and name.startswith("min_"))
                _require(allowed, name.replace("_", " "), "a number above 0", value)

    @property
    def whole_below(self) -> float:
        """Fill below which an object is not split, but kept or left out as it is."""
        return max(self.min_fill or 0.0, self.max_fill or 0.0)

    def splitting(self, *, scored: bool) -> Split:
        """Return how touching particles are told apart, with or without saliency."""
        if self.split is not None or self.diameter_angstrom is None:
            return self.split or "none"
        return "saliency" if scored else "distance"

    @property
    def apart_angstrom(self) -> float:
        """The least distance between two particles; 0 for any."""
        if self.min_distance_angstrom is not None:
            return self.min_distance_angstrom
        return (self.diameter_angstrom or 0.0) / 2

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values."""
        return dataclasses.asdict(self)


class Settings(TypedDict, total=False):
    """Settings by keyword: those of `SegmentConfig` and `RefineConfig`, and a preset."""

    preset: str
    weights: str
    looks: LooksRequest
    precision: Precision
    threshold: float
    contrast: ContrastRequest
    voxel_size_angstrom: float | None
    resample: Resample
    output_grid: OutputGrid
    core: int | None
    halo: int
    shard: int
    seed: int
    ome_version: OmeVersion
    scope: Scope
    rule: Rule
    unify: Unify
    classes: int
    iterations: int | None
    windows_per_step: int | None
    supervoxel_edge: int
    compactness: float
    sigma: float
    learning_rate: float | None
    momentum: float
    sharpness: float
    supervoxel_weight: float
    min_labels: int
    tolerance: float
    patience: int
    sample_blocks: int


def configure(**settings: Unpack[Settings]) -> SegmentConfig:
    """Return the configuration that keywords ask for, all else as by default.

    Parameters
    ----------
    settings
        ``preset``, one of `PRESETS`, is where refinement starts from; every other keyword is
        a field of `SegmentConfig` or `RefineConfig`.

    Raises
    ------
    RequestError
        For an unknown keyword or preset, or a value that cannot be.
    """
    values: dict[str, Any] = dict(settings)
    preset = values.pop("preset", "default")
    refining = {f.name for f in dataclasses.fields(RefineConfig)}
    whole = {f.name for f in dataclasses.fields(SegmentConfig)} - {"refine"}
    unknown = sorted(values.keys() - refining - whole)
    _require(not unknown, "settings", f"some of {', '.join(sorted(refining | whole))}", unknown)
    chosen = {name: value for name, value in values.items() if name in refining}
    refine = refinement(preset, **chosen)
    rest = {name: value for name, value in values.items() if name in whole}
    return SegmentConfig(refine=refine, **rest)
