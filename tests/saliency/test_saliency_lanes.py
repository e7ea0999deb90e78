"""What a process is set up for: precisions that it has, memory that goes back."""

import platform
import subprocess
import sys

import pytest
import torch

from tomoseg.errors import RequestError
from tomoseg.saliency.lanes import require_precision

LEFT = """
import sys, psutil, torch
from tomoseg.saliency.lanes import lane_setup
if sys.argv[1] == "set up":
    lane_setup()
MIB = 2**20 // 4
del_me = torch.ones(24 * MIB)
del del_me  # from now on glibc by itself takes maps of this size from its heap
before = psutil.Process().memory_info().rss
maps, kept = [], []
for _ in range(20):
    maps.append(torch.ones(6 * MIB))
    kept.append(torch.ones(MIB // 4))
maps.clear()
print((psutil.Process().memory_info().rss - before) / 2**20)
"""
"""Prints the MiB that a process has left when 120 MiB of maps are gone and 5 MiB are kept."""


def test_a_precision_that_the_processor_lacks_is_refused(monkeypatch):
    require_precision("float32", "cpu")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    with pytest.raises(RequestError, match="Leave --precision out"):
        require_precision("bfloat16", "cpu")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_maps_leave_the_process():
    left = {
        how: float(subprocess.check_output([sys.executable, "-c", LEFT, how], text=True))
        for how in ("as it comes", "set up")
    }
    assert left["as it comes"] > 100  # else there is nothing to set up any more
    assert left["set up"] < 30
