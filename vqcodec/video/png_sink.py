"""Output as a folder of numbered PNG pictures: 000001.png, 000002.png, …"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vqcodec.errors import OutputError
from vqcodec.video.libav import guard
from vqcodec.video.sink import FrameSink, Picture

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


class PngSink(FrameSink):
    """One file a frame, exact; the folder is made if need be, and what else is in it stays.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(self, folder: Path, size: tuple[int, int], picture: Picture) -> None:
        from av.codec import CodecContext

        super().__init__(str(folder), size, picture)
        self._folder = folder
        with guard(OutputError, f"{self.name}: cannot open"):
            folder.mkdir(parents=True, exist_ok=True)
            self._encoder = CodecContext.create("png", "w")
            self._encoder.thread_count = 1  # or pictures come out late
            self._encoder.width, self._encoder.height = picture.width, picture.height
            self._encoder.pix_fmt = picture.pixel_format
            self._encoder.time_base = 1 / picture.rate
            self._encoder.sample_aspect_ratio = picture.sample_aspect

    def _put(self, picture: VideoFrame, index: int) -> None:
        for packet in self._encoder.encode(picture):
            (self._folder / f"{index + 1:06d}.png").write_bytes(bytes(packet))

    def _finish(self) -> None:
        pass

    def _release(self) -> None:
        pass
