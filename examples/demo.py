"""Encode and decode pictures in motion, and tell how it went.

Without arguments the camera moves over scikit-image's bundled photographs; ``--video`` takes any
video instead. Writes to ``examples/out/``: source, coded file, decoded MP4, and a contact sheet
with source and decoded frames side by side.
"""

from __future__ import annotations

import argparse
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from skimage import data, io
from skimage.transform import SimilarityTransform, warp

import vqcodec
from vqcodec import metrics
from vqcodec.seam import joined
from vqcodec.video import open_sink, read_frames

Frames = NDArray[np.uint8]

OUT = Path(__file__).parent / "out"
RATE = Fraction(24)
SECONDS = 2.5  # for each photograph
WIDTH, HEIGHT = 320, 240


def camera_moves() -> Frames:
    """Pans, zooms and turns over photographs: uint8 (T, HEIGHT, WIDTH, 3)."""
    moves = (  # photograph, zoom from and to, pan in pixels, turn in radians
        (data.astronaut(), (0.9, 1.5), (60, 40), 0.05),
        (data.coffee(), (1.4, 0.9), (-70, 20), -0.08),
        (data.chelsea(), (0.8, 1.1), (30, -30), 0.10),
        (data.rocket(), (1.0, 1.6), (0, 60), 0.0),
    )
    count = round(SECONDS * RATE)
    frames = [
        shot(photo, zoom, pan, turn, step / (count - 1))
        for photo, zoom, pan, turn in moves
        for step in range(count)
    ]
    return np.stack(frames)


def shot(
    photo: Frames, zoom: tuple[float, float], pan: tuple[int, int], turn: float, at: float
) -> Frames:
    """The camera's view at moment ``at`` (0..1) of a move that starts and ends gently."""
    eased = at * at * (3 - 2 * at) - 0.5
    scale = (zoom[0] + (zoom[1] - zoom[0]) * (eased + 0.5)) * WIDTH / photo.shape[1]
    centre = np.array(photo.shape[1::-1]) / 2 + np.array(pan) * eased
    view = (
        SimilarityTransform(translation=(-WIDTH / 2, -HEIGHT / 2))
        + SimilarityTransform(scale=1 / scale, rotation=turn * eased * 2)
        + SimilarityTransform(translation=centre)
    )
    picture = warp(photo / 255, view, output_shape=(HEIGHT, WIDTH), order=1, mode="reflect")
    return np.asarray((picture * 255).round(), dtype=np.uint8)


def contact_sheet(source: Frames, decoded: Frames, *, columns: int = 8, zoom: int = 3) -> Frames:
    """Source frames above decoded ones, evenly spaced in time."""
    picks = np.linspace(0, len(source) - 1, columns).round().astype(int)
    rows = [np.concatenate(list(clip[picks]), axis=1) for clip in (source, decoded)]
    return np.concatenate(rows).repeat(zoom, axis=0).repeat(zoom, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, help="any video, instead of the camera moves")
    video: Path | None = parser.parse_args().video
    OUT.mkdir(exist_ok=True)

    if video is None:
        video = OUT / "source.mp4"
        aspect = Fraction(WIDTH, HEIGHT)
        with open_sink(video, width=WIDTH, height=HEIGHT, rate=RATE, aspect=aspect) as sink:
            sink.write(camera_moves())
    coded, shown = OUT / "coded.vqv", OUT / "decoded.mp4"

    codec = vqcodec.Codec.load()
    codec.decode(codec.encode(np.zeros((32, 64, 64, 3), np.uint8)))  # the first run warms up
    began = time.perf_counter()
    encoded = vqcodec.encode_file(video, coded, codec=codec, force=True)
    between = time.perf_counter()
    vqcodec.decode_file(coded, shown, codec=codec, size="display", force=True)
    ended = time.perf_counter()

    source = read_frames(video)
    with vqcodec.open(coded) as file:
        chunks = (codec.decode(chunk.grids(), chunk.frames) for chunk in file)
        decoded = np.concatenate(list(joined(chunks, codec.seams(len(file.header.levels)))))
    io.imsave(OUT / "contact-sheet.png", contact_sheet(source, decoded), check_contrast=False)

    frames = encoded.header.frames
    table = Table("", f"{video.name}", title="vqcodec demo", title_justify="left")
    table.add_row("frames", f"{frames} of 64x64 at {encoded.header.rate} fps")
    table.add_row("original", f"{encoded.source_bytes} bytes")
    table.add_row(".vqv", f"{encoded.nbytes} bytes")
    table.add_row("rate", f"{encoded.bpp:.4f} bpp, {encoded.kbps:.2f} kbit/s")
    table.add_row("PSNR", f"{metrics.psnr(source, decoded):.2f} dB")
    table.add_row("SSIM", f"{metrics.ssim(source, decoded):.4f}")
    table.add_row("encode", f"{frames / (between - began):.0f} fps")
    table.add_row("decode", f"{frames / (ended - between):.0f} fps")
    console = Console()
    console.print(table)
    console.print(f"In {OUT}: {coded.name}, {shown.name}, contact-sheet.png")


if __name__ == "__main__":
    main()
