"""This project's codec behind the benchmark's interface: whole ``.vqv`` files in memory."""

from __future__ import annotations

import hashlib
import io
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import vqcodec
from vqcodec.bench.clips import CLIP_SIDE
from vqcodec.bench.codecs import CodecMissingError, Encoded, Frames
from vqcodec.codec import Codec
from vqcodec.container import PACKERS, Header, Reader, Writer
from vqcodec.errors import CheckpointError
from vqcodec.model import registry
from vqcodec.train.loop import MODEL
from vqcodec.transcode import CHUNK_FRAMES


class VqcodecAdapter:
    """One checkpoint as a :class:`~vqcodec.bench.codecs.Codec`.

    Stream bytes are the picture chunks with their heads and CRCs; file bytes add header, index
    and end. The ladder is ``--size``: clips are scaled to that coded size before, and back after;
    at 64 nothing is scaled and the fixed-length rate is the paper's.

    Args:
        name: ``vqcodec`` for the default model, or ``vqcodec:MODEL``, a shipped name or a path.

    Raises:
        CodecMissingError: there is no such model, or it cannot be loaded.
    """

    ladder: tuple[str, ...] = ("size 96", "size 80", "size 64", "size 48", "size 32")

    def __init__(self, name: str) -> None:
        model = name.partition(":")[2] or None
        try:
            path = registry.find(model)
            self._codec = Codec.load(path)
        except CheckpointError as error:
            raise CodecMissingError(str(error)) from error
        self.name = name
        self.title = f"vqcodec {_label(model)}"
        # The file's own hash, as the model's identity leaves the encoder out.
        weights = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
        self.identity = f"vqcodec {vqcodec.__version__} torch {torch.__version__} model {weights}"

    def encode(self, frames: Frames, rate: Fraction, setting: str) -> Encoded:
        """See :meth:`vqcodec.bench.codecs.Codec.encode`."""
        side = int(setting.removeprefix("size "))
        frames = _scale(frames, side)
        header = Header(
            width=side,
            height=side,
            aspect=Fraction(1),
            rate=rate,
            frames=len(frames),
            model_id=self._codec.model_id,
            levels=self._codec.levels,
        )
        file = io.BytesIO()
        stream_bytes = fixed_bits = deflate_bytes = 0
        with Writer(file, header) as writer:
            for start in range(0, len(frames), CHUNK_FRAMES):
                chunk = frames[start : start + CHUNK_FRAMES]
                grids = self._codec.encode(chunk)
                stream_bytes += writer.write(len(chunk), grids)
                fixed_bits += sum(
                    math.prod(grid.shape) * level.bits
                    for grid, level in zip(grids, header.levels, strict=True)
                )
                deflate_bytes += len(PACKERS["deflate"].pack(grids, header.levels))
        data = file.getvalue()
        return Encoded(stream_bytes, len(data), data, fixed_bits, deflate_bytes)

    def decode(self, payload: bytes) -> Frames:
        """See :meth:`vqcodec.bench.codecs.Codec.decode`."""
        chunks = Reader(io.BytesIO(payload))
        decoded = [self._codec.decode(chunk.grids(), chunk.frames) for chunk in chunks]
        return _scale(np.concatenate(decoded), CLIP_SIDE)


def _label(model: str | None) -> str:
    """What to call a model: its name, or the run's if it is one of a training run."""
    path = Path(model or registry.DEFAULT)
    return path.parent.name if path.name == MODEL else path.stem


def _scale(frames: Frames, side: int) -> Frames:
    """uint8 (T, H, W, 3) → (T, side, side, 3), antialiased bicubic; as it is if it fits."""
    if frames.shape[1:3] == (side, side):
        return frames
    planes = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    scaled = F.interpolate(planes, (side, side), mode="bicubic", antialias=True)
    return np.ascontiguousarray(scaled.permute(0, 2, 3, 1).numpy())
