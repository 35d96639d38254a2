"""The formats and codecs that frames can be written in, and the names that videos go by."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vqcodec.errors import SettingError

# By which videos are found in a folder; a file that is named may have any.
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".ogv", ".ts", ".webm", ".wmv", ".y4m"}
)


@dataclass(frozen=True)
class Codec:
    """An encoder of FFmpeg and how it is used here."""

    name: str
    pixel_format: str
    crf: float | None = None  # constant quality by default, lower is better; None: has no such knob
    max_crf: float = 51
    options: dict[str, str] = field(default_factory=dict)
    stores_aspect: bool = False  # in its own bitstream, whatever the container


@dataclass(frozen=True)
class Format:
    """A kind of output."""

    name: str
    suffixes: tuple[str, ...]
    codecs: tuple[str, ...]  # that it may hold; the first by default
    muxer: str | None = None  # FFmpeg's name; None: written here, not by FFmpeg
    options: dict[str, str] = field(default_factory=dict)  # of the muxer, for a file
    stores_aspect: bool = True  # PyAV cannot hand the aspect to the Matroska muxer
    pipeable: bool = True
    audio: tuple[str, ...] = ()  # codecs that it takes; others become the first; none: no audio


# 4:2:0 is what every player takes. On 64×64 footage it costs more than the codec: lossless H.264
# in 4:2:0 stays at 41.9 dB PSNR; crf 10 gives 39.2 dB, 12 38.5 dB, 17 36.2 dB. To measure, write
# PNG or FFV1 (exact) or Y4M (4:4:4, 54.1 dB).
CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        Codec("libx264", "yuv420p", 10, options={"profile": "high"}, stores_aspect=True),
        Codec(
            "libx265",
            "yuv420p",
            10,
            options={"x265-params": "log-level=none"},
            stores_aspect=True,
        ),
        Codec("libvpx-vp9", "yuv420p", 10, 63, {"b": "0", "row-mt": "1"}),
        Codec("libsvtav1", "yuv420p", 10, 63, {"preset": "6"}),
        Codec("ffv1", "bgr0"),
        Codec("gif", "pal8", stores_aspect=True),
        Codec("png", "rgb24", stores_aspect=True),
        Codec("rawvideo", "yuv444p", stores_aspect=True),
    )
}

_LOSSY = ("libx264", "libx265", "libsvtav1", "libvpx-vp9")

FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Format(
            *("mp4", (".mp4", ".m4v"), _LOSSY, "mp4", {"movflags": "+faststart"}),
            pipeable=False,
            audio=("aac", "opus", "mp3", "ac3", "eac3", "flac"),
        ),
        Format(
            *("mov", (".mov",), _LOSSY[:2], "mov", {"movflags": "+faststart"}),
            pipeable=False,
            audio=("aac", "mp3", "ac3", "eac3"),
        ),
        Format(
            *("mkv", (".mkv",), (*_LOSSY, "ffv1"), "matroska"),
            stores_aspect=False,
            audio=("opus", "aac", "mp3", "flac", "vorbis", "ac3", "eac3"),
        ),
        Format(
            *("webm", (".webm",), ("libvpx-vp9", "libsvtav1"), "webm"),
            stores_aspect=False,
            audio=("opus", "vorbis"),
        ),
        Format("gif", (".gif",), ("gif",), "gif"),
        Format("y4m", (".y4m",), ("rawvideo",)),
        Format("png", (), ("png",)),
    )
}


def format_of(target: Path | str) -> str:
    """The format that a path asks for: by its suffix; "png" for a folder.

    A folder is an existing one, or a path that ends in a slash or has no suffix.

    Raises:
        SettingError: the suffix stands for no format.
    """
    path = Path(target)
    if str(target).endswith(("/", "\\")) or path.is_dir() or not path.suffix:
        return "png"
    for form in FORMATS.values():
        if path.suffix.lower() in form.suffixes:
            return form.name
    known = ", ".join(suffix for form in FORMATS.values() for suffix in form.suffixes)
    raise SettingError(f"{target}: unknown format {path.suffix} (known: {known}, a folder)")


def choose(name: str, codec: str | None, crf: float | None) -> tuple[Format, Codec, float | None]:
    """The format called ``name``, with the codec and quality asked for, or its own.

    Raises:
        SettingError: no such format or codec, not this codec in this format, or no such quality.
    """
    if name not in FORMATS:
        raise SettingError(f"unknown format {name} (known: {', '.join(FORMATS)})")
    form = FORMATS[name]
    if codec is not None and codec not in CODECS:
        raise SettingError(f"unknown codec {codec} (known: {', '.join(CODECS)})")
    chosen = CODECS[codec or form.codecs[0]]
    if chosen.name not in form.codecs:
        raise SettingError(f"{name} cannot hold {chosen.name} (but {', '.join(form.codecs)})")
    if crf is None:
        return form, chosen, chosen.crf
    if chosen.crf is None:
        raise SettingError(f"{chosen.name} has no crf")
    if not 0 <= crf <= chosen.max_crf:
        raise SettingError(
            f"crf of {chosen.name} must be from 0 to {chosen.max_crf:g}, not {crf:g}"
        )
    return form, chosen, crf
