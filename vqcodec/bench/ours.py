"""This project's codec behind the benchmark's interface: whole ``.vqv`` files in memory."""

from __future__ import annotations

import hashlib
import io
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

import vqcodec
from vqcodec.bench.codecs import CodecMissingError, Encoded, Frames, UnknownCodecError
from vqcodec.chunkcoder import ChunkCoder
from vqcodec.codec import Codec
from vqcodec.container import PACKERS, Header, Reader, Writer
from vqcodec.errors import CheckpointError
from vqcodec.limits import DEFAULT_EFFORT, MAX_EFFORT
from vqcodec.model import registry
from vqcodec.model.checkpoint import MODEL
from vqcodec.seam import joined
from vqcodec.transcode import CHUNK_FRAMES

# Raise it when the same model codes or decodes otherwise: results of before are measured anew.
_REVISION = 15


class VqcodecAdapter:
    """One checkpoint at one effort as a :class:`~vqcodec.bench.codecs.Codec`.

    Stream bytes are the picture chunks with their heads and CRCs; file bytes add header, index
    and end. The ladder is ``--quality``; a setting may also name a ``trade``, as in
    ``quality 2 trade 4``.

    Args:
        name: ``vqcodec`` for the default model and effort, ``vqcodec@EFFORT`` for another effort,
            and either with ``:MODEL``, a shipped name or a path.

    Raises:
        CodecMissingError: there is no such model, or it cannot be loaded.
        UnknownCodecError: no such effort.
    """

    def __init__(self, name: str) -> None:
        verb, _, model_name = name.partition(":")
        effort = verb.partition("@")[2] or str(DEFAULT_EFFORT)
        if effort not in map(str, range(MAX_EFFORT + 1)):
            raise UnknownCodecError(f"{name}: efforts are 0 to {MAX_EFFORT}")
        model = model_name or None
        try:
            path = registry.find(model)
            self._codec = Codec.load(path)
        except CheckpointError as error:
            raise CodecMissingError(str(error)) from error
        self.name = name
        self._effort = int(effort)
        self.title = f"vqcodec {_label(model)}, effort {effort}"
        # The file's own hash, as the model's identity leaves the encoder out.
        weights = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
        self.identity = (
            f"vqcodec {vqcodec.__version__} torch {torch.__version__} model {weights} "
            f"effort {effort} revision {_REVISION}"
        )
        levels = len(self._codec.levels)
        self.ladder = tuple(f"quality {quality}" for quality in range(levels, 0, -1))

    def encode(self, frames: Frames, rate: Fraction, setting: str) -> Encoded:
        """See :meth:`vqcodec.bench.codecs.Codec.encode`."""
        _, quality, *rest = setting.split()
        trade = float(rest[1]) if rest else 1.0
        levels = self._codec.levels_at(int(quality))
        header = header_of(self._codec, frames, rate, int(quality))
        file = io.BytesIO()
        stream_bytes = fixed_bits = deflate_bytes = 0
        with Writer(file, header, prior=self._codec.prior) as writer:
            coder = ChunkCoder(self._codec, writer.packing, effort=self._effort)
            for start in range(0, len(frames), CHUNK_FRAMES):
                chunk = frames[start : start + CHUNK_FRAMES]
                [grids], [packed] = coder.code([chunk], trade=trade)
                stream_bytes += writer.write_packed(*packed)
                fixed_bits += sum(
                    math.prod(grid.shape) * level.bits
                    for grid, level in zip(grids, levels, strict=True)
                )
                deflate_bytes += len(PACKERS["deflate"].pack(grids, levels))
        data = file.getvalue()
        return Encoded(stream_bytes, len(data), data, fixed_bits, deflate_bytes)

    def decode(self, payload: bytes) -> Frames:
        """See :meth:`vqcodec.bench.codecs.Codec.decode`."""
        reader = Reader(io.BytesIO(payload), lambda _header: self._codec.prior)
        chunks = (self._codec.decode(chunk.grids(), chunk.frames) for chunk in reader)
        return np.concatenate(list(joined(chunks, self._codec.seams(len(reader.header.levels)))))


def header_of(codec: Codec, frames: Frames, rate: Fraction, quality: int) -> Header:
    """The header of a file of these frames, uint8 (T, H, W, 3), of square pixels."""
    return Header(
        width=frames.shape[2],
        height=frames.shape[1],
        aspect=Fraction(1),
        rate=rate,
        frames=len(frames),
        model_id=codec.model_id,
        levels=codec.levels_at(quality),
    )


def _label(model: str | None) -> str:
    """What to call a model: its name, or the run's if it is one of a training run."""
    path = Path(model or registry.DEFAULT)
    return path.parent.name if path.name == MODEL else path.stem
