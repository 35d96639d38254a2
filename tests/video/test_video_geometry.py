"""Orientation, placement and aspect, as pure arithmetic."""

import struct
from fractions import Fraction

import numpy as np
import pytest

from vqcodec.video.geometry import Orientation, even, place, sample_aspect

ONE = 65536
CLOCKWISE = (0, ONE, 0, -ONE, 0, 0, 0, 0, 2**30)


def orientation(*matrix):
    return Orientation.from_display_matrix(struct.pack("=9i", *matrix))


@pytest.mark.parametrize(
    ("matrix", "rotation", "mirrored"),
    [
        ((ONE, 0, 0, 0, ONE, 0, 0, 0, 2**30), 0, False),
        (CLOCKWISE, 90, False),
        ((-ONE, 0, 0, 0, -ONE, 0, 0, 0, 2**30), 180, False),
        ((0, -ONE, 0, ONE, 0, 0, 0, 0, 2**30), 270, False),
        ((-ONE, 0, 0, 0, ONE, 0, 0, 0, 2**30), 0, True),
        ((0,) * 9, 0, False),
    ],
)
def test_display_matrix(matrix, rotation, mirrored):
    found = orientation(*matrix)
    assert (found.rotation, found.mirrored) == (rotation, mirrored)


def test_clockwise_rotation_moves_the_top_left_corner_to_the_top_right():
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 0] = 255
    turned = orientation(*CLOCKWISE).apply(pixels)
    assert turned.shape == (3, 2, 3)
    assert turned[0, 1].min() == 255
    assert turned.sum() == 3 * 255


@pytest.mark.parametrize(
    ("fit", "box", "scaled"),
    [
        ("stretch", (0, 0, 320, 240), (64, 64)),
        ("crop", (40, 0, 240, 240), (64, 64)),
        ("pad", (0, 0, 320, 240), (64, 48)),
    ],
)
def test_fit(fit, box, scaled):
    placement = place((320, 240), Fraction(4, 3), (64, 64), fit, Orientation())
    assert (placement.box, placement.scaled, placement.canvas) == (box, scaled, (64, 64))


def test_fit_of_a_turned_picture_works_on_the_stored_one():
    turned = orientation(*CLOCKWISE)
    assert place((100, 50), Fraction(2), (32, 64), "pad", turned).scaled == (64, 32)
    assert place((100, 50), Fraction(2), (64, 32), "crop", turned).box == (37, 0, 25, 50)


def test_aspect():
    assert sample_aspect(Fraction(4, 3), 64, 64) == Fraction(4, 3)
    assert sample_aspect(Fraction(16, 9), 128, 72) == 1
    for aspect in (Fraction(1, 10**6), Fraction(10**6 + 1, 10**6)):
        stored = sample_aspect(aspect, 64, 64)
        assert max(stored.numerator, stored.denominator) <= 65535
        assert stored > 0
    assert [even(n) for n in (0.1, 85.33, 86, 87)] == [2, 86, 86, 88]
