"""Videos with sound made on the spot: a flash and a beep at the same times, and where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

RATE = 48000
LONG = 0.25  # s of a flash and of a beep


def write_av(
    target: Path | BinaryIO,
    *,
    seconds: float = 4,
    at: Sequence[float] = (1.0, 2.5),
    fps: int = 16,
    codec: str = "aac",
    begin: float = 0,
    end: float | None = None,
    offset: float = 0,
    format: str | None = None,
    options: dict[str, str] | None = None,
) -> None:
    """Write flashes and beeps ``at`` these times (s); sound is there from ``begin`` to ``end``.

    All stamps are ``offset`` s late.
    """
    times = np.arange(int(begin * RATE), int((seconds if end is None else end) * RATE)) / RATE
    sound = np.zeros(len(times), np.float32)
    for moment in at:
        on = (times >= moment) & (times < moment + LONG)
        sound[on] = 0.5 * np.sin(2 * np.pi * 1000 * (times[on] - moment))
    file: Any = str(target) if isinstance(target, Path) else target
    with av.open(file, "w", format=format, options=options or {}) as container:
        video = container.add_stream("libx264", rate=fps, width=64, height=64)
        video.pix_fmt, video.options = "yuv420p", {"g": str(fps), "bf": "0"}
        audio = container.add_stream(codec, rate=RATE)
        audio.layout = "mono"
        shown = heard = 0
        while shown < seconds * fps or heard < len(sound):
            if shown < seconds * fps and (shown / fps <= begin + heard / RATE):
                time = shown / fps + 1e-6
                bright = any(moment <= time < moment + LONG for moment in at)
                grey = np.full((64, 64, 3), 230 if bright else 20, np.uint8)
                picture = av.VideoFrame.from_ndarray(grey, "rgb24")
                picture.pts = shown + round(offset * fps)
                picture.time_base = Fraction(1, fps)
                container.mux(video.encode(picture))
                shown += 1
            elif heard < len(sound):
                part = np.ascontiguousarray(sound[None, heard : heard + 1024])
                frame = av.AudioFrame.from_ndarray(part, "fltp", "mono")
                frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
                frame.pts = heard + round((begin + offset) * RATE)
                container.mux(audio.encode(frame))
                heard += 1024
            else:
                heard = len(sound)
                shown += 1
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


@dataclass
class Measured:
    """When (s) something begins in a video, by its time stamps; no ``beeps``: no audio stream."""

    flashes: list[float]
    beeps: list[float] | None
    end: float  # of the audio

    def error(self) -> float:
        """The largest distance (s) of a beep from its flash."""
        assert self.beeps is not None
        assert len(self.flashes) == len(self.beeps)
        return max(abs(a - b) for a, b in zip(self.flashes, self.beeps, strict=True))


def measure(source: Path | BinaryIO) -> Measured:
    """Find the flashes and the beeps."""
    file: Any = str(source) if isinstance(source, Path) else source
    flashes: list[float] = []
    beeps: list[float] = []
    end, bright, last = 0.0, False, -1.0
    with av.open(file) as container:
        streams = [container.streams.video[0], *container.streams.audio[:1]]
        for frame in container.decode(*streams):
            time = float(frame.pts * frame.time_base)
            pixels: NDArray[Any] = frame.to_ndarray()
            if isinstance(frame, av.VideoFrame):
                was, bright = bright, bool(frame.to_ndarray(format="gray").mean() > 120)
                flashes += [time] * (bright and not was)
                continue
            loud = np.nonzero(np.abs(pixels.astype(float)[0]) > 0.15)[0]
            for place in loud:
                moment = time + place / frame.sample_rate
                beeps += [float(moment)] * int(moment - last > LONG / 2)
                last = moment
            end = time + frame.samples / frame.sample_rate
        return Measured(flashes, beeps if container.streams.audio else None, end)
