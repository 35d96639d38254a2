"""Threads of the numerical libraries."""

import os
import subprocess
import sys

SCRIPT = """
import numpy, torch
from threadpoolctl import threadpool_info
from vqcodec.threads import compute_in_one_thread

def threads():
    return [pool["num_threads"] for pool in threadpool_info()]

numpy.ones((64, 64)) @ numpy.ones((64, 64))
torch.set_num_threads(3)
before = threads()
compute_in_one_thread()
print(sum(count > 1 for count in before), torch.get_num_threads(), set(threads()))
"""


def test_every_library_computes_in_one_thread():
    chosen = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={name: value for name, value in os.environ.items() if name not in chosen},
        capture_output=True,
        text=True,
        check=True,
    )
    several, *after = result.stdout.split()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert int(several) >= min(2, cores)  # torch's, and NumPy's if there are cores
    assert after == ["1", "{1}"]
