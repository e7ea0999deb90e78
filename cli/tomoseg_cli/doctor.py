"""``tomoseg doctor``: what this machine has, and whether tomoseg works on it."""

import os
import shutil
import sys
import tempfile
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from tomoseg.errors import TomosegError
from tomoseg_cli.console import common_options, configure_logging, print_result

LIBRARIES = (
    "tomoseg",
    "torch",
    "zarr",
    "numcodecs",
    "dask",
    "distributed",
    "scikit-image",
    "mrcfile",
    "numpy",
)


@click.command()
@common_options
def doctor(as_json: bool, quiet: bool, verbose: bool) -> int:
    """Print versions, devices and space, and segment a small volume twice to compare bits."""
    configure_logging(quiet=True, verbose=verbose)
    report: dict[str, Any] = {
        "python": sys.version.split()[0],
        "versions": {name: _version(name) for name in LIBRARIES},
        "cores": len(os.sched_getaffinity(0)),
        "devices": _devices(),
        "bfloat16": _bfloat16(),
        "temporary_folder": tempfile.gettempdir(),
        "temporary_free_bytes": shutil.disk_usage(tempfile.gettempdir()).free,
        "self_test": _self_test(),
    }
    text = "\n".join(f"{key:22} {value}" for key, value in report.items())
    print_result(report, text, as_json=as_json)
    return 0 if report["self_test"] == "passed" else TomosegError.exit_code


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _devices() -> list[str]:
    import torch

    names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return [f"cpu ({torch.backends.cpu.get_cpu_capability()})", *names]


def _bfloat16() -> list[str]:
    """Return the devices that ``segment --precision bfloat16`` is faster on."""
    import torch

    from tomoseg.saliency.lanes import has_bfloat16

    names = ["cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
    return [name for name in names if has_bfloat16(name)]


def _self_test() -> str:
    """Segment one small volume with one and with two lanes; the bits must be equal."""
    try:
        with tempfile.TemporaryDirectory(prefix="tomoseg-doctor-") as folder:
            digests = [_segment_small(Path(folder), lanes) for lanes in (1, 2)]
    except (TomosegError, OSError, RuntimeError) as error:
        return f"failed: {error}"
    return "passed" if digests[0] == digests[1] else "failed: one and two lanes give other bits"


def _segment_small(folder: Path, lanes: int) -> str:
    import numpy as np
    import zarr

    from tomoseg.blockwise.execute import Resources, Serial
    from tomoseg.blockwise.prepare import prepare
    from tomoseg.blockwise.prepared import Request
    from tomoseg.blockwise.run import segment
    from tomoseg.blockwise.status import layout_of
    from tomoseg.config import RefineConfig, SegmentConfig
    from tomoseg.geometry import whole
    from tomoseg.io.omezarr import ArrayStore
    from tomoseg.io.volume import open_volume

    source = folder / f"volume{lanes}.zarr"
    shape = (20, 30, 70)
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    zarr.create_array(source, data=values)
    output = folder / f"mask{lanes}.zarr"
    config = SegmentConfig(
        refine=RefineConfig(scope="none"), halo=0, core=64, shard=64, voxel_size_angstrom=10.0
    )
    request = Request(open_volume(source), output, config, Resources(threads=lanes))
    segment(prepare(request), Serial(threading.Event()), lambda *_: None)
    layout, _ = layout_of(output)
    return ArrayStore(layout, "image", 0).digest(whole(shape))
