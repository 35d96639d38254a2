"""Threads of the numerical libraries, which each bring their own."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_limits


def compute_in_one_thread() -> None:
    """Hold PyTorch, and NumPy's linear algebra, to one thread of this process.

    For processes that share the cores among themselves: NumPy's threads spin while they wait, so
    that two workers on two cores would take twice as long as one. Libraries that are loaded later
    are not held, as scipy's own linear algebra, of which nothing here makes use.
    """
    torch.set_num_threads(1)
    threadpool_limits(1)
