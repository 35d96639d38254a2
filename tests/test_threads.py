"""Threads of the numerical libraries."""

import subprocess
import sys

SCRIPT = """
import numpy, torch
from threadpoolctl import threadpool_info
from vqcodec.threads import compute_in_one_thread

numpy.ones((64, 64)) @ numpy.ones((64, 64))
torch.set_num_threads(3)
before = [pool["num_threads"] for pool in threadpool_info()]
compute_in_one_thread()
print(max(before), torch.get_num_threads(), {pool["num_threads"] for pool in threadpool_info()})
"""


def test_every_library_computes_in_one_thread():
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["3", "1", "{1}"]
