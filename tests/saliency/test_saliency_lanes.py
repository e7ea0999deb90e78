"""What a process is set up for: precisions that it has, memory that goes back."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from tomoseg.errors import RequestError
from tomoseg.saliency.lanes import require_precision

HEAPS = """
import ctypes, sys
from concurrent.futures import ThreadPoolExecutor
from tomoseg.saliency.lanes import lane_setup
if sys.argv[1] == "set up":
    lane_setup()
with ThreadPoolExecutor(3) as pool:
    kept = list(pool.map(lambda n: [bytes(100 * n + k) for k in range(1000)], range(9)))
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w")))
libc.fflush(None)
"""
"""Writes what glibc knows of its heaps when three threads have used memory."""


def output_of(code: str, *arguments: str) -> str:
    """Return what Python prints where nobody has set up the allocator, as Dask does."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.check_output(command, text=True, env=plain)


def test_a_precision_that_the_processor_lacks_is_refused(monkeypatch):
    require_precision("float32", "cpu")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    with pytest.raises(RequestError, match="Leave --precision out"):
        require_precision("bfloat16", "cpu")


HANDED = """
import psutil, torch
from tomoseg.saliency.lanes import hand_back, share_memory
share_memory()
MIB = 2**20 // 4
first = torch.ones(24 * MIB)
del first  # from now on glibc takes maps of this size from its heap
maps, kept = [], []
for _ in range(20):
    maps.append(torch.ones(6 * MIB))
    kept.append(torch.ones(MIB // 4))
maps.clear()
for _ in range(2):
    print(psutil.Process().memory_info().rss / 2**20)
    hand_back()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_is_free_between_what_is_kept_is_handed_back():
    before, after = map(float, output_of(HANDED).split())
    assert before - after > 80  # of 120 MiB


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_threads_share_one_heap(tmp_path):
    def heaps(how: str) -> int:
        file = tmp_path / how
        output_of(HEAPS, how, str(file))
        return file.read_text().count("<heap nr=")

    assert heaps("as it comes") > 1  # else there is nothing to set up
    assert heaps("set up") == 1
