"""Index grids of footage: what a prior is trained on, encoded once and kept on disk.

A sequence is one augmented crop of a video, as many whole chunks long as the video gives, so that
what a chunk's prediction takes from the chunk before it is seen in training too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vqcodec.files import make_folder, replacing
from vqcodec.model.checkpoint import Checkpoint
from vqcodec.model.network import MSVQVAE
from vqcodec.train.data import Augmentation, Clips, Footage, centre_square, fit_length

SEQUENCE = 4  # chunks, at most
SHARD = 256  # chunks in a file of the cache, or a few more


@dataclass(frozen=True)
class Codes:
    """Index grids of chunks.

    Attributes:
        grids: per level, coarsest first, int16 (N, T', H', W').
        follows: bool (N,): whether chunk n directly follows chunk n - 1.
    """

    grids: tuple[NDArray[np.int16], ...]
    follows: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.follows)

    def first(self, count: int) -> Codes:
        """The first ``count`` chunks."""
        return Codes(tuple(grid[:count] for grid in self.grids), self.follows[:count])

    @classmethod
    def join(cls, parts: Sequence[Codes]) -> Codes:
        """All chunks of ``parts``, in order."""
        levels = zip(*(part.grids for part in parts), strict=True)
        return cls(
            tuple(np.concatenate(level) for level in levels),
            np.concatenate([part.follows for part in parts]),
        )


class Sequences:
    """Random sequences of consecutive chunks from footage, each a function of (seed, number).

    Args:
        footage: decoded videos; longer ones are drawn more often.
        frames, size: shape of a chunk.
        seed: of the whole run.
    """

    def __init__(self, footage: Sequence[Footage], *, frames: int, size: int, seed: int) -> None:
        self.frames, self.seed = frames, seed
        by_length: dict[int, list[Footage]] = {}
        for item in footage:
            chunks = min(SEQUENCE, max(1, item.frames // frames))
            by_length.setdefault(chunks, []).append(item)
        self._clips = [
            Clips(items, frames=chunks * frames, size=size, seed=seed, augmentation=Augmentation())
            for chunks, items in sorted(by_length.items())
        ]
        # A sequence of n chunks stands for n times the footage.
        weights = np.array(
            [sum(item.frames for item in clips.footage) / clips.frames for clips in self._clips]
        )
        self._cumulative = np.cumsum(weights / weights.sum())

    def __call__(self, number: int) -> Tensor:
        """Sequence ``number``: uint8 (chunks, 3, T, H, W)."""
        draw = np.random.default_rng((self.seed, number)).random()
        choice = int(np.searchsorted(self._cumulative, draw, side="right"))
        clip = self._clips[min(choice, len(self._clips) - 1)](number, 0)
        return _chunks(clip, self.frames)


def encode_training(
    checkpoint: Checkpoint,
    footage: Sequence[Footage],
    cache: Path,
    *,
    chunks: int,
    frames: int,
    size: int,
    seed: int,
    device: str = "cpu",
    report: Callable[[int], bool] = lambda _done: False,
) -> Codes | None:
    """Encode ``chunks`` chunks of random sequences, or find them in ``cache``.

    Args:
        report: called with the number of chunks done, now and then; True stops the work.

    Returns:
        The codes, or None if ``report`` stopped the work; it goes on there the next time.

    Raises:
        CheckpointError: ``checkpoint`` does not fit its own configuration.
        OutputError: the cache cannot be written.
    """
    sequences = Sequences(footage, frames=frames, size=size, seed=seed)
    names = "\n".join(item.cache.name for item in footage)
    key = f"{checkpoint.network_id.hex()}\n{frames} {size} {seed}\n{names}"
    folder = cache / f"codes-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    make_folder(folder)
    network: MSVQVAE | None = None
    shards: list[Codes] = []
    done = number = 0
    while done < chunks:
        path = folder / f"{len(shards):04}.npz"
        shard = _read(path)
        if shard is None:
            network = network or checkpoint.build().to(device)
            parts: list[Codes] = []
            while sum(map(len, parts)) < min(SHARD, chunks - done):
                parts.append(encode_sequence(network, sequences(number + len(parts))))
                if report(done + sum(map(len, parts))):
                    return None
            shard = Codes.join(parts)
            _write(path, shard)
        shards.append(shard)
        done += len(shard)
        number += int((~shard.follows).sum())  # every sequence has one first chunk
    return Codes.join(shards).first(chunks)  # however many the cache has


def encode_validation(
    checkpoint: Checkpoint,
    footage: Sequence[Footage],
    *,
    frames: int,
    size: int,
    device: str = "cpu",
) -> Codes:
    """The first chunks of every video, centre square, as an encoder would cut them.

    Raises:
        CheckpointError: ``checkpoint`` does not fit its own configuration.
    """
    network = checkpoint.build().to(device)
    parts = []
    for item in footage:
        length = min(SEQUENCE, max(1, item.frames // frames)) * frames
        clip = fit_length(item.read(0, length), length)
        parts.append(encode_sequence(network, _chunks(centre_square(clip, size), frames)))
    return Codes.join(parts)


@torch.inference_mode()
def encode_sequence(network: MSVQVAE, clips: Tensor) -> Codes:
    """Encode the consecutive chunks uint8 (N, 3, T, H, W) of one sequence."""
    device = next(network.parameters()).device
    codes = len(network.config.code_grids)  # details need no codes around them to be predicted
    grids = network.encode(clips.to(device).float().div_(255), codes)
    follows = np.arange(len(clips)) > 0
    return Codes(tuple(grid.to(torch.int16).cpu().numpy() for grid in grids), follows)


def _chunks(clip: Tensor, frames: int) -> Tensor:
    """(3, N·T, H, W) → (N, 3, T, H, W)."""
    return torch.stack(torch.split(clip, frames, dim=1))


def _write(path: Path, codes: Codes) -> None:
    with replacing(path, force=True) as temporary, temporary.open("wb") as file:
        np.savez(file, *codes.grids, follows=codes.follows)


def _read(path: Path) -> Codes | None:
    """A shard of the cache; None if it is missing or damaged."""
    try:
        with np.load(path) as arrays:
            grids = tuple(arrays[f"arr_{level}"] for level in range(len(arrays.files) - 1))
            return Codes(grids, arrays["follows"])
    except (OSError, ValueError, EOFError, KeyError, BadZipFile):
        return None
