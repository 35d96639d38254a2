"""Output as YUV4MPEG2: uncompressed, for pipes into other tools."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from vqcodec.errors import OutputError
from vqcodec.files import name_of
from vqcodec.video.libav import guard
from vqcodec.video.sink import FrameSink, Picture

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


class Y4mSink(FrameSink):
    """A header line, then for each picture a line and its planes: 8-bit 4:4:4, limited range.

    FFmpeg's own muxer is not used as PyAV cannot tell it the shape of the pixels.

    Raises:
        OutputError: the target cannot be opened.
    """

    def __init__(self, target: Path | BinaryIO, size: tuple[int, int], picture: Picture) -> None:
        super().__init__(name_of(target), size, picture)
        self._owned = isinstance(target, Path)
        with guard(OutputError, f"{self.name}: cannot open"):
            self._file = target.open("wb") if isinstance(target, Path) else target

    def _put(self, picture: VideoFrame, index: int) -> None:
        if index == 0:
            aspect, rate = self.picture.sample_aspect, self.picture.rate
            self._file.write(
                f"YUV4MPEG2 W{picture.width} H{picture.height} "
                f"F{rate.numerator}:{rate.denominator} Ip "
                f"A{aspect.numerator}:{aspect.denominator} C444 XCOLORRANGE=LIMITED\n".encode()
            )
        self._file.write(b"FRAME\n" + picture.to_ndarray().tobytes())

    def _finish(self) -> None:
        self._file.flush()
        if self._owned:
            self._file.close()

    def _release(self) -> None:
        if self._owned:
            with contextlib.suppress(OSError):
                self._file.close()
