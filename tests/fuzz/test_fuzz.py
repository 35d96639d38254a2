"""A short run of the fuzzer; see ``run.py`` for a long one."""

from mutate import Mutator
from run import check


def test_mutated_files_keep_the_promises():
    mutator = Mutator(seed=1)
    outcomes = {check(mutator.next()).split(":")[0] for _ in range(600)}
    assert outcomes >= {"sound", "ChecksumError", "FormatError", "TruncatedError"}


def test_the_same_seed_gives_the_same_inputs():
    one, other = Mutator(seed=2), Mutator(seed=2)
    assert [one.next() for _ in range(50)] == [other.next() for _ in range(50)]
