"""What is lost, from errors and gaps, as pure arithmetic: times in s, frames of 1 s."""

from fractions import Fraction

import pytest

from vqcodec.video.damage import Damage, Watch


def losses(pictures, errors=(), corrupt=(), promised=None):
    """What is found when the decoder shows ``pictures`` after it told of ``errors``."""
    damage = Damage()
    watch = Watch(damage)
    for error in errors:
        watch.error(None if error is None else Fraction(error))
    for time in pictures:
        watch.picture(Fraction(time), Fraction(1), corrupt=time in corrupt)
    watch.finish(promised, Fraction(2))
    return str(damage)


@pytest.mark.parametrize(
    ("pictures", "errors", "promised", "told"),
    [
        ([0, 1, 2, 7, 8], [], 9, ""),  # a pause
        ([0, 1, 3, 4], [2], 5, "1 frame lost or corrupt, 2.00 to 3.00 s"),
        ([0, 1, 7, 8], [4], 9, "5 frames lost or corrupt, 2.00 to 7.00 s"),
        ([0, 1, 5, 6], [7], 7, "3 frames lost or corrupt, 2.00 to 5.00 s"),  # told of late
        ([0, 1, 2, 5, 6], [1], 7, "2 frames lost or corrupt, 3.00 to 5.00 s"),  # and early
        ([0, 2, 3, 5], [1, 4], 6, "2 frames lost or corrupt, 1.00 to 2.00 s, 4.00 to 5.00 s"),
        (range(60), [30], 60, "1 frame lost or corrupt, 30.00 to 31.00 s"),  # yet a picture came
        ([0, 1, 2], [None], 3, "1 frame lost or corrupt, at 0.00 s"),
        ([0, 1, 2], [-3, -2], 6, "3 frames lost or corrupt, at 0.00 s"),  # time 0: first picture
        ([0, 1, 2], [3], 4, "1 frame lost or corrupt, 3.00 to 4.00 s"),
        ([0, 1, 2], [], 5, ""),  # headers round
        ([0, 1, 2], [], 6, "3 frames lost or corrupt, 3.00 to 6.00 s"),
    ],
)
def test_losses(pictures, errors, promised, told):
    assert losses(pictures, errors, promised=promised) == told


def test_corrupt_pictures_are_counted_once():
    told = "2 frames lost or corrupt, 1.00 to 3.00 s"
    assert losses(range(5), errors=[1, 2], corrupt=[1, 2]) == told


def test_only_the_first_places_are_named():
    told = losses(range(60), corrupt=range(0, 60, 2))
    assert told.startswith("30 frames lost or corrupt, 0.00 to 1.00 s, 2.00 to 3.00 s, ")
    assert told.endswith("18.00 to 19.00 s, …")


def test_a_failure_to_read_is_told():
    damage = Damage(failure="Input/output error")
    assert damage
    assert str(damage) == "cannot be read to its end: Input/output error"
