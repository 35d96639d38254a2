"""Opening a source: from a path, an address or a stream to a container and its video stream."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from vqcodec.errors import SourceError
from vqcodec.files import name_of
from vqcodec.video.libav import guard

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

Source = Path | str | BinaryIO
PIPE_HINT = "an MP4 with its index at the end cannot be piped"


@dataclass(frozen=True)
class SourceInfo:
    """What a video is, before any change."""

    container: str  # FFmpeg's names of the format, such as "mov,mp4,m4a,3gp,3g2,mj2"
    codec: str  # FFmpeg's name of the codec, such as "h264"
    width: int  # pixels as stored, before rotation
    height: int
    sample_aspect: Fraction  # width over height of a stored pixel
    rotation: int  # degrees clockwise to turn it for display: 0, 90, 180, 270
    mirrored: bool  # whether it is also mirrored for display
    display_aspect: Fraction  # width over height as displayed, all the above considered
    rate: Fraction | None  # average frames per second
    duration: Fraction | None  # seconds
    bytes: int | None  # size of the file
    interlaced: bool  # of the first frame
    pixel_format: str  # FFmpeg's name, such as "yuv420p"
    hdr: bool  # PQ, HLG or BT.2020 colours


def is_seekable(source: Source) -> bool:
    """Whether reading ``source`` can start anywhere, and start again."""
    if isinstance(source, (str, Path)):
        return "://" not in str(source) and not Path(source).is_fifo()
    return source.seekable()


@contextlib.contextmanager
def rereadable(source: Source) -> Iterator[Callable[[], Source]]:
    """Yield what returns ``source`` from its beginning, each time; of a pipe a temporary copy.

    Raises:
        SourceError: a pipe cannot be copied.
    """
    if isinstance(source, (str, Path)) and not Path(source).is_fifo():
        yield lambda: source
        return
    name = name_of(source)
    with contextlib.ExitStack() as stack:
        try:
            if isinstance(source, (str, Path)):
                source = stack.enter_context(Path(source).open("rb"))
            file = source
            if not source.seekable():
                copy = stack.enter_context(tempfile.NamedTemporaryFile())
                shutil.copyfileobj(source, copy)
                copy.seek(0)
                copy.name = name  # for messages
                file = cast("BinaryIO", copy)
            begin = file.tell()
        except OSError as error:
            reason = error.strerror or str(error)
            raise SourceError(f"{name}: cannot be copied to a temporary file: {reason}") from error

        def rewound() -> BinaryIO:
            file.seek(begin)
            return file

        yield rewound


def size_of(source: Source) -> int | None:
    """Bytes of a plain file; None for anything else."""
    if isinstance(source, (str, Path)) and Path(source).is_file():
        return Path(source).stat().st_size
    return None


def numbers_of(source: Source) -> range | None:
    """From the first to the last number of the pictures that a pattern names; None if it is none.

    >>> numbers_of("video.mp4")
    """
    if not isinstance(source, (str, Path)) or Path(source).exists():
        return None
    folder, name = Path(source).parent, Path(source).name
    match = re.fullmatch(r"([^%]*)%(0\d+)?d([^%]*)", name)
    if match is None or not folder.is_dir():
        return None
    named = re.compile(re.escape(match[1]) + r"(\d+)" + re.escape(match[3]))
    found = [int(hit[1]) for path in folder.iterdir() if (hit := named.fullmatch(path.name))]
    numbers = [number for number in found if (folder / (name % number)).is_file()]
    return range(min(numbers), max(numbers) + 1) if numbers else None


def open_container(source: Source, image_rate: Fraction) -> InputContainer:
    """Open ``source`` and read its header.

    Args:
        source: a path, an address (``http://…``), a pattern of numbered pictures
            (``frames/%04d.png``) or a binary stream, seekable or not.
        image_rate: pictures per second of such a pattern, which has no rate of its own.

    Raises:
        SourceError: there is no such file, or FFmpeg cannot make a video of it.
    """
    import av

    name = name_of(source)
    options: dict[str, str] = {}
    if isinstance(source, (str, Path)) and "://" not in name:
        path = Path(source)
        if "%" in name and not path.exists():
            options["framerate"] = str(image_rate)
            if numbers := numbers_of(path):
                options["start_number"] = str(numbers.start)
        else:
            _check_file(path)
        file: str | BinaryIO = f"file:{name}"  # or "a:b.mp4" would be taken for a protocol
    else:
        file = str(source) if isinstance(source, (str, Path)) else source
    try:
        with guard(SourceError, f"{name}: cannot open"):
            return av.open(file, "r", options=options, metadata_errors="replace")
    except SourceError as error:
        if isinstance(error.__cause__, (av.InvalidDataError, av.EOFError)):
            raise SourceError(f"{name}: {_why_invalid(source)}") from error.__cause__
        raise


def video_stream(container: InputContainer, name: str) -> VideoStream:
    """The main video stream, set up for decoding.

    Raises:
        SourceError: there is none (a cover picture is not a video), or no decoder for it.
    """
    from av.stream import Disposition
    from av.video.stream import VideoStream

    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        raise SourceError(f"{name}: no video stream")
    if stream.codec_context is None:
        raise SourceError(f"{name}: no decoder for its video stream")
    # Not by threads that decode several pictures at once: those tell of an error some packets late,
    # and the pictures that they hold are lost if that is at the end.
    stream.codec_context.thread_type = "SLICE"
    return stream


def duration_of(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Seconds that the header promises, if it does."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    if container.duration:
        return Fraction(container.duration, 1_000_000)
    return None


def _check_file(path: Path) -> None:
    """Say plainly what FFmpeg would say obscurely."""
    if not path.exists():
        raise SourceError(f"{path}: no such file")
    if path.is_dir():
        raise SourceError(f"{path}: is a folder (name its pictures, as in {path}/%06d.png)")
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(f"{path}: is empty")


def _why_invalid(source: Source) -> str:
    """Guess why FFmpeg finds the data invalid."""
    if not is_seekable(source):
        return f"not a video that FFmpeg can read ({PIPE_HINT})"
    if isinstance(source, (str, Path)) and Path(source).is_file():
        with Path(source).open("rb") as file:
            if file.read(8)[4:] == b"ftyp":
                return "incomplete MP4: its index (moov) is missing or damaged"
    return "not a video that FFmpeg can read"
