"""What all outputs have in common: frames come in, are scaled and recoloured, and go out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING

from vqcodec.audio import AudioPacket
from vqcodec.errors import OutputError
from vqcodec.video.colour import MATRIX_BT709, MATRIX_RGB, assumed_matrix
from vqcodec.video.libav import SCALER, Build, Pipeline, chain, guard

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Picture:
    """The pictures of an output."""

    width: int
    height: int
    pixel_format: str  # FFmpeg's name
    sample_aspect: Fraction  # width over height of a pixel
    rate: Fraction  # a second

    @property
    def is_yuv(self) -> bool:
        return self.pixel_format.startswith("yuv")

    @property
    def matrix(self) -> int:
        """Of YUV: what a player takes that ignores the tag, or an output that has none."""
        return assumed_matrix(self.width, self.height)

    def from_rgb(self) -> Build:
        """The filters that make such pictures from RGB ones of any size. YUV is limited range."""
        scale = f"{self.width}:{self.height}:{SCALER}"
        if self.is_yuv:
            matrix = "bt709" if self.matrix == MATRIX_BT709 else "bt601"
            scale += f":out_color_matrix={matrix}:out_range=tv"
        return chain(("scale", scale), ("format", self.pixel_format))


class FrameSink(ABC):
    """Takes frames; made by :func:`~vqcodec.video.writer.open_sink`.

    A context manager: closes on success, abandons on an exception, which leaves a broken output
    for the caller to remove.

    Args:
        name: what to call the output in messages.
        size: (width, height) of the frames.
        picture: what is made of them.
        build: how; by ``picture.from_rgb()`` if None.
    """

    def __init__(
        self, name: str, size: tuple[int, int], picture: Picture, build: Build | None = None
    ) -> None:
        self.name = name
        self.picture = picture
        self._size = size
        self._build = build or picture.from_rgb()
        self._pipeline: Pipeline | None = None
        self._taken = 0
        self._given = 0
        self._closed = False

    def write(self, frames: NDArray[np.uint8]) -> None:
        """Append ``frames``: ``uint8`` RGB (T, H, W, 3), 0 to 255.

        Raises:
            OutputError: they cannot be encoded or stored.
            ValueError: they are of another shape or type.
        """
        from av.video.frame import VideoFrame

        width, height = self._size
        if frames.dtype != "uint8" or frames.ndim != 4 or frames.shape[1:] != (height, width, 3):
            raise ValueError(
                f"frames must be uint8 (T, {height}, {width}, 3), not {frames.dtype} {frames.shape}"
            )
        with guard(OutputError, f"{self.name}: cannot write"):
            for frame in frames:
                picture = VideoFrame.from_ndarray(frame, "rgb24")
                picture.colorspace = MATRIX_RGB
                picture.time_base = 1 / self.picture.rate
                picture.pts = self._taken
                self._taken += 1
                if self._pipeline is None:
                    self._pipeline = Pipeline(picture, self._build)
                self._pass_on(self._pipeline, picture)

    def write_audio(self, packets: Iterable[AudioPacket]) -> None:
        """Append audio, in order of time, the first frame being at 0; no matter how far ahead.

        Raises:
            OutputError: it cannot be encoded or stored.
        """
        with guard(OutputError, f"{self.name}: cannot write"):
            self._put_audio(packets)

    def close(self) -> None:
        """Complete the output. Closing again does nothing.

        Raises:
            OutputError: it cannot be completed, or no frame was written.
        """
        if self._closed:
            return
        if self._pipeline is None:
            self.abandon()
            raise OutputError(f"{self.name}: no frame to write")
        self._closed = True
        with guard(OutputError, f"{self.name}: cannot write"):
            self._pass_on(self._pipeline, None)
            self._finish()

    def abandon(self) -> None:
        """Let go of the output, complete or not."""
        if not self._closed:
            self._closed = True
            self._release()

    def __enter__(self) -> FrameSink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _pass_on(self, pipeline: Pipeline, picture: VideoFrame | None) -> None:
        for ready in pipeline.push(picture):
            self._put(ready, self._given)
            self._given += 1

    @abstractmethod
    def _put(self, picture: VideoFrame, index: int) -> None:
        """Encode and store one picture: that of frame ``index``, from 0."""

    def _put_audio(self, packets: Iterable[AudioPacket]) -> None:
        """Take audio; an output without it drops it."""
        return

    @abstractmethod
    def _finish(self) -> None:
        """Store what is left, and close."""

    @abstractmethod
    def _release(self) -> None:
        """Close without completing; raises nothing."""
