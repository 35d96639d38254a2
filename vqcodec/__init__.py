"""vqcodec: a learned codec for small videos.

    import vqcodec

    vqcodec.encode_file("in.mp4", "out.vqv")
    vqcodec.decode_file("out.vqv", "out.mp4")

    with vqcodec.open("out.vqv") as file:
        for chunk in file:
            top, even, odd = chunk.grids()  # int16 (T/8, H/8, W/8) and twice (T/8, H/4, W/4)

    codec = vqcodec.Codec.load()
    indices = codec.encode(frames)  # uint8 (T, H, W, 3)
    frames = codec.decode(indices)

Names are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqcodec.codec import Codec
    from vqcodec.container.file import VqvFile
    from vqcodec.indices import open
    from vqcodec.transcode import decode_file, encode_file

__version__ = "0.1.0"
__all__ = ["Codec", "VqvFile", "__version__", "decode_file", "encode_file", "open"]

_HOMES = {
    "Codec": "vqcodec.codec",
    "VqvFile": "vqcodec.container.file",
    "decode_file": "vqcodec.transcode",
    "encode_file": "vqcodec.transcode",
    "open": "vqcodec.indices",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
