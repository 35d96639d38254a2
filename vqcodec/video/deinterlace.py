"""Interlaced pictures made whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from vqcodec.video.libav import Pipeline, chain
from vqcodec.video.timing import Shown

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# One picture out for one in, and only those flagged as interlaced are touched.
_BWDIF = ("bwdif", "mode=send_frame:deint=interlaced")
_MIN_WIDTH, _MIN_HEIGHT = 3, 4  # of bwdif


def deinterlace(frames: Iterable[Shown[VideoFrame]]) -> Iterator[Shown[VideoFrame]]:
    """Pass progressive frames; from the first interlaced one on, pass all through FFmpeg's bwdif.

    Holds the two or three frames that bwdif looks at.
    """
    pipeline: Pipeline | None = None
    kind: object = None
    inside: deque[Shown[VideoFrame]] = deque()

    def run(picture: VideoFrame | None) -> Iterator[Shown[VideoFrame]]:
        if pipeline is not None:
            for whole in pipeline.push(picture):
                yield replace(inside.popleft(), item=whole)

    for frame in frames:
        picture = frame.item
        usable = picture.width >= _MIN_WIDTH and picture.height >= _MIN_HEIGHT
        if pipeline is None and not (picture.interlaced_frame and usable):
            yield frame
            continue
        new_kind = (picture.width, picture.height, picture.format.name)
        if new_kind != kind:
            yield from run(None)
            pipeline = Pipeline(picture, chain(_BWDIF)) if usable else None
            kind = new_kind
        if pipeline is None:
            yield frame
            continue
        inside.append(frame)
        yield from run(picture)
    yield from run(None)
