"""Colour: which matrix turns YUV into RGB, and what may be transparent.

The numbers are those of ITU-T H.273, which FFmpeg uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MATRIX_RGB = 0
MATRIX_BT709 = 1
MATRIX_BT601 = 6
RANGE_LIMITED = 1
PRIMARIES_BT709 = 1
TRANSFER_BT709 = 1

# Matrices that swscale knows: BT.709, FCC, BT.601 (two names), SMPTE 240M, BT.2020.
_KNOWN_MATRICES = frozenset({1, 4, 5, 6, 7, 9})


def assumed_matrix(width: int, height: int) -> int:
    """The matrix that players take for a video which does not say: BT.709 from HD on."""
    return MATRIX_BT709 if width >= 1280 or height > 576 else MATRIX_BT601


def matrix_of(picture: VideoFrame) -> int:
    """The matrix to decode ``picture`` with; the assumed one if it has none, or an unknown one."""
    if picture.format.is_rgb:
        return MATRIX_RGB
    if picture.colorspace in _KNOWN_MATRICES:
        return picture.colorspace
    return assumed_matrix(picture.width, picture.height)


def has_alpha(picture: VideoFrame) -> bool:
    """Whether ``picture`` may be transparent somewhere; palettes of FFmpeg always may."""
    layout = picture.format
    return layout.has_palette or any(component.is_alpha for component in layout.components)
