"""High dynamic range and wide gamut, brought to the BT.709 of common screens.

Done here in numpy, on the few pixels that are left after scaling: swscale's own mapping takes 8 s
to set up, and FFmpeg before 8.0 has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    Light = NDArray[np.float64]  # (H, W, 3), linear, >= 0; 1 is the white of paper

_PRIMARIES_BT2020 = 9
_PQ = 16  # SMPTE ST 2084
_HLG = 18  # ARIB STD-B67
_WHITE = 203.0  # cd/m² of reference white in HDR, by ITU-R BT.2408
_HLG_PEAK = 1000.0  # cd/m² of the nominal HLG display
_GAMMA = 2.4  # of the reference SDR display, ITU-R BT.1886
_KNEE = 0.5  # light up to here is kept; above, it is rolled off towards 1

# Linear RGB of BT.2020 primaries to BT.709 primaries (ITU-R BT.2087).
_BT2020_TO_BT709 = (
    (1.6605, -0.5876, -0.0728),
    (-0.1246, 1.1329, -0.0083),
    (-0.0182, -0.1006, 1.1187),
)


def is_hdr(picture: VideoFrame) -> bool:
    """Whether ``picture`` has to be mapped to be seen on a common screen: PQ, HLG or BT.2020."""
    return picture.color_trc in (_PQ, _HLG) or picture.color_primaries == _PRIMARIES_BT2020


def to_sdr(pixels: NDArray[np.uint16], transfer: int, primaries: int) -> NDArray[np.uint8]:
    """Map RGB as coded to RGB for a common screen; greys stay grey.

    Args:
        pixels: (H, W, 3), full range, 0 to 65535.
        transfer, primaries: their characteristics, by ITU-T H.273.

    Returns:
        ``uint8`` (H, W, 3), 0 to 255.
    """
    import numpy as np

    signal = pixels / 65535.0
    if transfer == _PQ:
        light = _pq_light(signal)
    elif transfer == _HLG:
        light = _hlg_light(signal)
    else:
        light = signal**_GAMMA
    if primaries == _PRIMARIES_BT2020:
        light = np.maximum(light @ np.array(_BT2020_TO_BT709).T, 0)
    if transfer in (_PQ, _HLG):
        light = _roll_off(light)
    return np.rint(255 * np.clip(light, 0, 1) ** (1 / _GAMMA)).astype(np.uint8)


def _pq_light(signal: Light) -> Light:
    import numpy as np

    root = signal ** (1 / 78.84375)
    light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (
        1 / 0.1593017578125
    )
    return light * (10000 / _WHITE)


def _hlg_light(signal: Light) -> Light:
    import numpy as np

    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array((0.2627, 0.6780, 0.0593))
    light: Light = scene * luminance[..., None] ** 0.2 * (_HLG_PEAK / _WHITE)
    return light


def _roll_off(light: Light) -> Light:
    """Compress what is brighter than the knee, by the brightest channel, which keeps the hue."""
    import numpy as np

    peak = np.maximum(light.max(axis=-1, keepdims=True), 1e-9)
    room = 1 - _KNEE
    rolled = _KNEE + room * -np.expm1(-np.maximum(peak - _KNEE, 0) / room)
    return light * np.where(peak > _KNEE, rolled / peak, 1)
