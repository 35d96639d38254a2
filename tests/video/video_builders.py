"""Small videos made on the spot, and measures on what is read back."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]


def ramp(count: int, height: int = 64, width: int = 64) -> Frames:
    """(T, H, W, 3): flat frames, each of its own grey, so that the content tells the number."""
    levels = np.linspace(16, 240, count).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def noise(count: int, height: int = 64, width: int = 64) -> Frames:
    """(T, H, W, 3): the same random pixels on every call."""
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def scene(count: int, height: int = 64, width: int = 64) -> Frames:
    """(T, H, W, 3): smooth moving colours, which lossy codecs keep well."""
    t, y, x = np.meshgrid(
        np.arange(count) / 16, *(np.linspace(0, 3, n) for n in (height, width)), indexing="ij"
    )
    waves = [np.sin(x * a + y * b + t * c) for a, b, c in ((1, 1, 2), (2, 0.5, -3), (0.3, 2, 1))]
    return (127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def quadrants(height: int = 64, width: int = 64) -> Frames:
    """(1, H, W, 3): red, green over blue, white; tells every orientation apart."""
    frame = np.zeros((1, height, width, 3), np.uint8)
    frame[:, : height // 2, : width // 2] = 255, 0, 0
    frame[:, : height // 2, width // 2 :] = 0, 255, 0
    frame[:, height // 2 :, : width // 2] = 0, 0, 255
    frame[:, height // 2 :, width // 2 :] = 255, 255, 255
    return frame


def write_video(
    target: Path | io.BytesIO,
    frames: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
    *,
    rate: Fraction | int = 16,
    codec: str = "ffv1",
    pixel_format: str = "bgr0",
    format: str | None = None,
    pts: Sequence[int] | None = None,
    tick: Fraction | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    aspect: Fraction | None = None,
    matrix: tuple[int, ...] | None = None,
    colour: dict[str, int] | None = None,
    source_format: str = "rgb24",
) -> None:
    """Write frames (T, H, W, C) with stamps ``pts`` in units of ``tick``, or at ``rate``."""
    tick = tick or 1 / Fraction(rate)
    file = str(target) if isinstance(target, Path) else target
    with av.open(file, "w", format=format, options=container_options or {}) as container:
        height, width = frames[0].shape[:2]
        stream = container.add_stream(
            codec,
            rate=Fraction(rate),
            width=width,
            height=height,
            time_base=tick,
            options=options or {},
        )
        stream.pix_fmt = pixel_format
        for key, value in (colour or {}).items():
            setattr(stream.codec_context, key, value)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), source_format)
            if source_format == "rgb24" and pixel_format not in ("rgb24", "bgr0"):
                full = (colour or {}).get("color_range") == 2
                frame = frame.reformat(
                    format=pixel_format,
                    dst_colorspace=(colour or {}).get("colorspace", 5),
                    dst_color_range=2 if full else 1,
                    interpolation="BICUBIC",
                )
            frame.pts = pts[i] if pts is not None else i
            frame.time_base = tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_audio(path: Path) -> None:
    """A quarter of a second of silence."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2000), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_raw_h264(path: Path, sizes: Sequence[tuple[int, int]], count: int) -> None:
    """A bare H.264 stream in which the picture size changes."""
    data = b""
    for width, height in sizes:
        part = io.BytesIO()
        write_video(
            part,
            ramp(count, height, width),
            codec="libx264",
            pixel_format="yuv420p",
            format="h264",
            options={"bf": "0"},
        )
        data += part.getvalue()
    path.write_bytes(data)


class Pipe(io.RawIOBase):
    """A stream that can only be read forwards."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._data.readinto(buffer)


class FullDisk(io.RawIOBase):
    """A stream that takes nothing."""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raise OSError(28, "No space left on device")


def psnr(a: Frames, b: Frames) -> float:
    """In dB, over all frames together."""
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
