"""Where pixels go: orientation, aspect ratio, and the fitting of one rectangle in another.

Pure arithmetic and array views; knows nothing of FFmpeg.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Fit = Literal["stretch", "crop", "pad"]
FITS: tuple[Fit, ...] = ("stretch", "crop", "pad")
# The largest terms that H.264 can store for the shape of a pixel are 65535; GIF has coarser ones.
MAX_ASPECT_TERM = 4096


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to lay a picture down: transposed first, then mirrored."""

    transposed: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def from_display_matrix(cls, matrix: bytes) -> Orientation:
        """The nearest orientation to FFmpeg's display matrix (9 native int32, row by row).

        The matrix takes the pixel (x, y) to (a x + c y, b x + d y) with rows (a, b, .), (c, d, .).
        """
        a, b, _, c, d = struct.unpack("=5i", matrix[:20])
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, flip_x=a < 0, flip_y=d < 0)
        return cls(True, flip_x=c < 0, flip_y=b < 0)

    @property
    def mirrored(self) -> bool:
        """Whether left and right are exchanged, besides the rotation."""
        return self.transposed ^ self.flip_x ^ self.flip_y

    @property
    def rotation(self) -> int:
        """Degrees clockwise (0, 90, 180, 270); of a mirrored picture, after the mirroring."""
        if self.transposed:
            return 270 if self.flip_y else 90
        return 180 if self.flip_y else 0

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Lay ``pixels`` (H, W, 3) down as stored: a view (H, W, 3), or (W, H, 3) if transposed."""
        if self.transposed:
            pixels = pixels.transpose(1, 0, 2)
        return pixels[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


@dataclass(frozen=True)
class Placement:
    """Cut a box out of the stored picture, scale it, centre it on a black canvas.

    Sizes are (width, height) in pixels, of the picture as stored, before its orientation.
    """

    box: tuple[int, int, int, int]  # x, y, width, height in the source
    scaled: tuple[int, int]
    canvas: tuple[int, int]


def place(
    source: tuple[int, int],
    shape: Fraction,
    target: tuple[int, int],
    fit: Fit,
    orientation: Orientation,
) -> Placement:
    """How a picture of ``source`` pixels (w, h), shown with aspect ``shape``, fills ``target``.

    ``shape`` is width over height of the stored picture as displayed, before its orientation;
    ``target`` (w, h) is after it, with square pixels for "crop" and "pad".
    """
    width, height = source
    canvas = target[::-1] if orientation.transposed else target
    excess = shape / Fraction(*canvas)  # > 1: the source is wider than the canvas
    whole = (0, 0, width, height)
    if fit == "crop":
        keep_w = max(1, round(width * min(Fraction(1), 1 / excess)))
        keep_h = max(1, round(height * min(Fraction(1), excess)))
        box = ((width - keep_w) // 2, (height - keep_h) // 2, keep_w, keep_h)
        return Placement(box, canvas, canvas)
    if fit == "pad":
        scaled_w = max(1, round(canvas[0] * min(Fraction(1), excess)))
        scaled_h = max(1, round(canvas[1] * min(Fraction(1), 1 / excess)))
        return Placement(whole, (scaled_w, scaled_h), canvas)
    return Placement(whole, canvas, canvas)


def even(length: float | Fraction) -> int:
    """The even number of pixels nearest to ``length``, at least 2."""
    return max(2, 2 * round(length / 2))


def sample_aspect(aspect: Fraction, width: int, height: int) -> Fraction:
    """The shape of a pixel with which a ``width`` × ``height`` picture has this display aspect.

    Rounded, and limited, to what every format can store.
    """
    largest = Fraction(MAX_ASPECT_TERM)
    exact = min(max(aspect * height / width, 1 / largest), largest)
    if exact < 1:  # limit the larger of the two terms
        return 1 / (1 / exact).limit_denominator(MAX_ASPECT_TERM)
    return exact.limit_denominator(MAX_ASPECT_TERM)
