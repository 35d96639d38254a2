"""How much memory decoding takes: an estimate, made before anything of that size is allocated.

A file of a hundred bytes can hold pictures of any size. What these take follows from the header and
the number of frames in a chunk, so it is known beforehand.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vqcodec.errors import MemoryLimitError

if TYPE_CHECKING:
    from vqcodec.container import Header

DEFAULT_MEMORY = 1344  # MiB

# Above the peak resident set of `vqcodec decode`, as tests/slow/pictures.py measures it, with the
# shipped model on a processor.
_PROGRAM = 935 << 20  # without pictures; 790 MiB of it are torch's, in its build for CUDA
# Bytes a pixel of a chunk's frames, those that fill up the last step included; the same where
# tensors are so small that gaps stay between them, and how much that is at most.
_PLAIN = (70, 400, 120 << 20)
_DETAILED = (400, 1000, 350 << 20)  # with planes of details
_OUTPUT_PIXEL = 250  # bytes a pixel of the output: x264 holds some 60 pictures, others fewer
_OUTPUT_PIXELS = {"libx265": 300, "libsvtav1": 1100}


def output_bytes(width: int, height: int, encoder: str = "libx264") -> int:
    """What an encoder takes that writes pictures of this size."""
    return _OUTPUT_PIXELS.get(encoder, _OUTPUT_PIXEL) * width * height


@dataclass(frozen=True)
class Allowance:
    """What decoding a file may take in all.

    Attributes:
        header: of the file.
        output: bytes that writing the pictures takes.
        memory: MiB.
    """

    header: Header
    output: int
    memory: int = DEFAULT_MEMORY

    @property
    def frames(self) -> int:
        """Most frames that may be decoded at once, in steps of the coarsest level; maybe none."""
        step = self.header.pad_frames(1)
        left = (self.memory << 20) - _PROGRAM - self.output
        large, small, most = self._costs
        each = small if left < most else large
        return max(0, left) // (each * self._pixels * step) * step

    def needed(self, frames: int) -> int:
        """About the MiB that decoding a chunk of so many frames takes in all."""
        pixels = self._pixels * self.header.pad_frames(frames)
        large, small, most = self._costs
        pictures = max(large * pixels, min(small * pixels, most))
        return -(-(_PROGRAM + self.output + pictures) >> 20)

    def check(self, frames: int) -> None:
        """Do nothing if a chunk of so many frames may be decoded.

        Raises:
            MemoryLimitError: it takes more than is allowed.
        """
        if frames > self.frames:
            needed = self.needed(frames)
            raise MemoryLimitError(
                f"a chunk of {frames} frame{'s' * (frames > 1)} of {self.header.width}x"
                f"{self.header.height} takes about {needed} MiB to decode; "
                f"allow it with --memory {needed}"
            )

    @property
    def _costs(self) -> tuple[int, int, int]:
        return _DETAILED if any(level.details for level in self.header.levels) else _PLAIN

    @property
    def _pixels(self) -> int:
        return self.header.width * self.header.height


def give_back_what_is_freed() -> None:
    """Keep this process from holding on to memory in pieces too small to be of use again.

    The tensors of large pictures go straight back to the system when they are freed, where
    otherwise gaps pile up between them (90 MiB after four chunks of 512x512). They come in pages of
    2 MiB, as to get them in pages of 4 KiB takes long. To be called before torch allocates any.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


_M_MMAP_THRESHOLD = -3  # glibc's <malloc.h>
_LARGE = 9 << 20  # above what a tensor of the usual 64x64 pictures takes: reusing that is faster
