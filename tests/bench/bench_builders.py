"""Small clips, videos and results for the benchmark's tests."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vqcodec.bench.schema import ClipResult

DATA = Path(__file__).parents[3] / "shared" / "data"  # third-party footage, not in the repository


def moving_clip(frames: int = 32, seed: int = 0, side: int = 64) -> np.ndarray:
    """A smooth random picture that the camera pans over: uint8 (T, side, side, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0 : side + 2 * frames].astype(np.float64)
    picture = np.zeros((side, side + 2 * frames, 3))
    for _ in range(12):
        fx, fy, phase = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3), rng.uniform(0, 6.3)
        picture += np.cos(fx * x + fy * y + phase)[..., None] * rng.uniform(0, 14, 3)
    picture = (128 + picture + rng.normal(0, 3, picture.shape)).clip(0, 255).astype(np.uint8)
    return np.stack([picture[:, 2 * t : 2 * t + side] for t in range(frames)])


def write_video(path: Path, frames: int = 40, rate: int = 16, size: tuple[int, int] = (80, 64)):
    """A real file at ``rate`` frames a second; its codec is MPEG-4 in any container."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, frame in enumerate(moving_clip(frames, side=max(size))):
            picture = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(frame[:height, :width]), format="rgb24"
            )
            picture.pts, picture.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def result(codec: str, setting: str, clip: str, size: int, psnr: float) -> ClipResult:
    """A made-up result of one clip."""
    return ClipResult(
        codec=codec,
        setting=setting,
        clip=clip,
        clip_sha256="0" * 64,
        frames=32,
        width=64,
        height=64,
        rate="16",
        stream_bytes=size,
        file_bytes=size + 900,
        fixed_bits=23040 if codec.startswith("vqcodec") else None,
        deflate_bytes=None,
        psnr=psnr,
        ssim=psnr / 40,
        pooled_psnr=psnr - 0.3,
        ms_ssim=psnr / 38,
        flicker_inside=3.0,
        flicker_border=None,
        lpips=None,
        dists=None,
        encode_seconds=0.1,
        decode_seconds=0.05,
        peak_rss_bytes=100 << 20,
    )
