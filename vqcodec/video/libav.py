"""The few PyAV idioms that reading and writing share: errors, and filter graphs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

from vqcodec.errors import OutputError, VqcodecError

if TYPE_CHECKING:
    from av.filter.context import FilterContext
    from av.filter.graph import Graph
    from av.video.frame import VideoFrame

# Bicubic with a = -1/2 (Catmull-Rom, as torch, torchvision and Pillow with antialiasing), widened
# when scaling down; exact rounding, chroma at full resolution, the same bits on every processor.
SCALER = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact:param0=0:param1=0.5"

Build = Callable[["Graph", "FilterContext"], "FilterContext"]


@contextlib.contextmanager
def guard(error: type[VqcodecError], failure: str) -> Iterator[None]:
    """Turn whatever FFmpeg or the system raises inside into ``error``, one line: ``failure: why``.

    PyAV also raises plain ValueError, RuntimeError and LookupError for streams it cannot use. That
    the reader of an output has gone is no error, and so stays a BrokenPipeError.
    """
    import av

    try:
        yield
    except VqcodecError:
        raise
    except (av.FFmpegError, OSError, ValueError, RuntimeError, LookupError, MemoryError) as cause:
        if error is OutputError and isinstance(cause, BrokenPipeError):
            raise
        why = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        raise error(f"{failure}: {why}") from cause


def chain(*filters: tuple[str, str]) -> Build:
    """A graph that is a line of ``(filter, arguments)``."""

    def build(graph: Graph, node: FilterContext) -> FilterContext:
        for name, arguments in filters:
            following = graph.add(name, arguments or None)
            node.link_to(following)
            node = following
        return node

    return build


class Pipeline:
    """An FFmpeg filter graph with one way in, for pictures all like ``like``, and one way out."""

    def __init__(self, like: VideoFrame, build: Build) -> None:
        import av.filter

        self._graph = av.filter.Graph()
        self._graph.threads = 1  # too little work to share
        source = self._graph.add(
            "buffer",
            f"video_size={like.width}x{like.height}:pix_fmt={like.format.name}"
            f":time_base={like.time_base or Fraction(1, 1000)}"
            f":colorspace={like.colorspace}:range={like.color_range}",
        )
        self._sink = self._graph.add("buffersink")
        build(self._graph, source).link_to(self._sink)
        self._graph.configure()

    def push(self, picture: VideoFrame | None) -> Iterator[VideoFrame]:
        """Put one picture in (None: the end) and take out what is ready."""
        import av

        self._graph.push(picture)
        while True:
            try:
                ready = self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):  # needs more; has no more
                return
            yield ready
