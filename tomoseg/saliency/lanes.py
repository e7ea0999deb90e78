"""Lanes: threads that compute the same bits whichever of them does the work, and how many.

The only home of torch's process-wide switches. A lane runs one window at a time with one
intra-op thread; speed comes from several lanes, never from a split sum.
"""

import contextlib
import ctypes
import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch.utils import deterministic

from tomoseg.config import Precision
from tomoseg.errors import RequestError

ARENA_MAX = -8
"""The number of heaps, to glibc's mallopt (malloc.h)."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def lane_setup() -> None:
    """Put the calling thread, and the process, in the state that the same bits need.

    One intra-op thread (the setting belongs to a thread, so every lane calls this),
    deterministic algorithms, no autotuning, no TF32, cuBLAS with a fixed workspace.
    Idempotent and cheap; models call it too, so that a caller who forgets it is slow
    rather than wrong. Call it before the first use of CUDA in a process.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    share_memory()
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    if not torch.are_deterministic_algorithms_enabled():
        # the twin `use_deterministic_algorithms` imports the compiler, seconds of every process
        torch.set_deterministic_debug_mode("error")
    # Deterministic mode would fill every fresh buffer with NaN; ours are always written.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


@functools.cache
def share_memory() -> None:
    """Have all threads share one heap, and large maps lie in huge pages.

    Left alone, glibc keeps a heap for every thread, in pieces that fit none of a window's
    maps: a fifth more memory, for the same speed. Other C libraries are left as they are,
    and so is a process whose environment has settings of its own for that.
    """
    if {"MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it when it first allocates
    if libc := _glibc():
        libc.mallopt(ARENA_MAX, 1)


def hand_back() -> None:
    """Hand memory that is free within the heap back to the system.

    After each window it takes some 2 % of the time, and a fifth of the memory stays away that
    would else be lost in pieces.
    """
    if libc := _glibc():
        libc.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        if libc.malloc_trim and libc.mallopt:
            return libc
    return None


def map_lanes(
    function: Callable[[Item], Result], items: Iterable[Item], lanes: int = 1
) -> list[Result]:
    """Return ``[function(item) for item in items]``, computed by `lanes` threads.

    The order of the results is that of the items; with one lane, the calling thread works.
    """
    if lanes <= 1:
        lane_setup()
        return [function(item) for item in items]
    with ThreadPoolExecutor(lanes, initializer=lane_setup) as pool:
        return list(pool.map(function, items))


def resolve_device(name: str) -> str:
    """Return the device that `name` means: ``cpu``, ``cuda:N``; ``auto`` prefers CUDA.

    Raises
    ------
    RequestError
        Where torch does not have the device here.
    """
    available = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if name == "auto":
        return available[0] if available else "cpu"
    found = f"{name}:0" if name == "cuda" else name
    if found not in ("cpu", *available):
        raise RequestError(
            f"device: expected {' or '.join(['auto', 'cpu', *available])}, got {name}.",
            "If there is a GPU, install a torch that was built for it.",
        )
    return found


def has_bfloat16(device: str) -> bool:
    """Tell whether a device of this machine computes in bfloat16, and does not imitate it."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def require_precision(precision: Precision, device: str) -> None:
    """Refuse a precision that the device has no instructions for.

    Raises
    ------
    RequestError
        Where bfloat16 is asked of a processor or a GPU that would only imitate it.
    """
    if precision == "bfloat16" and not has_bfloat16(device):
        raise RequestError(
            f"precision: {device} has no instructions for bfloat16.", "Leave --precision out."
        )
