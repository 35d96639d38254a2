"""The codec proper: frames to index grids and back, one chunk at a time or several at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from vqcodec.carry import Carry
from vqcodec.container import Level
from vqcodec.container.header import MODEL_ID_BYTES
from vqcodec.entropy.details import COLOURS
from vqcodec.errors import CheckpointError, QualityError
from vqcodec.model import checkpoint as checkpoints
from vqcodec.model import registry
from vqcodec.model.config import REACH
from vqcodec.seam import Seams, across, rule
from vqcodec.search import search

Frames = NDArray[np.uint8]
Grids = tuple[NDArray[np.int16], ...]


class Codec:
    """A network made ready, with the numpy view of it.

    Frames are uint8 (T, H, W, 3) RGB; H and W multiples of ``stride``, T any number from 1. Grids
    are int16 (T', H', W'), one for each level, coarsest first, where T' counts steps over T padded
    up to a multiple of ``stride_t``: (4, 8, 8), (4, 16, 16), ... for 32 frames of 64×64.

    Quality level *q* is the first *q* grids: encoding can stop there, and decoding takes what
    there is.

    Attributes:
        model_id: 8 bytes, as files store it.
        levels: strides and codebook sizes of all levels, as files store them.
        default_quality: the level without any refinement: top and bottom, as in the paper.
        prior: predicts indices, for the range packer; None if the model has none.
        stride, stride_t: of the coarsest level.
    """

    def __init__(self, checkpoint: checkpoints.Checkpoint, *, device: str = "cpu") -> None:
        self._device = find_device(device)
        with _NoDraws():
            self._network = checkpoint.build().to(self._device)
        self.model_id = checkpoint.model_id[:MODEL_ID_BYTES]
        self.levels = tuple(Level(*grid) for grid in checkpoint.config.grids)
        self.default_quality = checkpoint.config.first_stage
        self.prior = None if checkpoint.prior is None else checkpoint.prior.build()
        self.stride, self.stride_t = checkpoint.config.stride, checkpoint.config.stride_t

    @classmethod
    def load(cls, model: Path | str | None = None, *, device: str = "cpu") -> Codec:
        """Load a shipped model by name, or a checkpoint by path; None for the default model.

        Raises:
            CheckpointError: there is no such model, it is damaged, or there is no such device.
        """
        return cls._read(registry.find(model), device)

    @classmethod
    def load_for(cls, model_id: bytes, *, device: str = "cpu") -> Codec:
        """Load the shipped model that a file names in its header.

        Raises:
            ModelMismatchError: it is not shipped.
            CheckpointError: it is damaged, or there is no such device.
        """
        return cls._read(registry.find_by_id(model_id), device)

    @classmethod
    def _read(cls, path: Path, device: str) -> Codec:
        find_device(device)  # before the work of loading
        checkpoint = checkpoints.load(path)
        try:
            return cls(checkpoint, device=device)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error

    def encode(self, frames: Frames, quality: int | None = None) -> Grids:
        """Encode one chunk. The last frame is repeated to fill up the coarsest grid's last step.

        Args:
            frames: of the chunk.
            quality: how many grids; None for all.

        Raises:
            QualityError: the model has no such quality level.
            ValueError: not uint8 (T, H, W, 3), or H or W is no multiple of ``stride``.
        """
        return self.encode_batch([frames], quality)[0]

    def decode(self, grids: Sequence[NDArray[np.integer]], frames: int | None = None) -> Frames:
        """Decode one chunk to uint8 (T, H, W, 3), cut to ``frames`` if that is given.

        The grids are of any quality level: the first ones, as many as there are.

        Raises:
            ValueError: grids that no clip encodes to, an index outside its codebook, or a number
                of ``frames`` that is not in the chunk.
        """
        return self.decode_batch([grids], [frames])[0]

    def levels_at(self, quality: int | None) -> tuple[Level, ...]:
        """The levels of a quality level; of None all.

        Raises:
            QualityError: the model has no such quality level.
        """
        if quality is not None and not 1 <= quality <= len(self.levels):
            raise QualityError(
                f"the model has quality levels 1 to {len(self.levels)}, not {quality}"
            )
        return self.levels[:quality]

    @torch.inference_mode()
    def encode_batch(
        self,
        chunks: Sequence[Frames],
        quality: int | None = None,
        *,
        effort: int = 0,
        trade: float = 1.0,
        freedom: float = 1.0,
        before: Sequence[NDArray[np.int16]] | None = None,
        follows: Sequence[bool] = (),
        carry: Carry | None = None,
    ) -> list[Grids]:
        """Encode chunks of one shape together; faster than one by one.

        Args:
            chunks: uint8 (T, H, W, 3) each.
            quality: how many grids; None for all.
            effort: 0 for the nearest codes; up to 9 to search for better and cheaper ones.
            trade: one per cent of the bits is worth this many per cent of the distortion.
            freedom: 1 to search freely; less, down to 0, to keep all the nearer to the nearest
                codes.
            before: grids of the chunk before the first, if that may be packed with memory of it.
            follows: for each chunk whether it may be packed with memory of the one before it;
                none by default.
            carry: where the chunks are consecutive, what those before hand on to them; one for
                each video.

        Raises:
            QualityError: the model has no such quality level.
            ValueError: see :meth:`encode`; or effort, trade or freedom out of range.
        """
        count = len(self.levels_at(quality))
        batch = torch.from_numpy(np.stack([self._padded(frames) for frames in chunks]))
        clips = batch.to(self._device).permute(0, 4, 1, 2, 3).float().div_(255)
        grids = search(
            self._network,
            clips,
            count,
            effort=effort,
            trade=trade,
            prior=self.prior,
            freedom=freedom,
            before=before,
            follows=follows,
            carry=carry,
        )
        arrays = [grid.to(torch.int16).cpu().numpy() for grid in grids]
        return [tuple(array[number] for array in arrays) for number in range(len(chunks))]

    @torch.inference_mode()
    def decode_batch(
        self,
        chunks: Sequence[Sequence[NDArray[np.integer]]],
        frames: Sequence[int | None] | None = None,
    ) -> list[Frames]:
        """Decode chunks of one shape together; faster than one by one.

        Raises:
            ValueError: see :meth:`decode`.
        """
        for grids in chunks:
            self._check(grids)
        stacked = [
            torch.from_numpy(np.stack(level).astype(np.int64)).to(self._device)
            for level in zip(*chunks, strict=True)
        ]
        clips = self._network.decode(stacked).mul_(255).add_(0.5).to(torch.uint8)
        arrays = clips.permute(0, 2, 3, 4, 1).cpu().numpy()
        lengths = frames if frames is not None else [None] * len(chunks)
        for length in lengths:
            if length is not None and not 1 <= length <= arrays.shape[1]:
                raise ValueError(f"{length} frames of a chunk of {arrays.shape[1]}")
        return [
            np.ascontiguousarray(array[:length])
            for array, length in zip(arrays, lengths, strict=True)
        ]

    def carry(self) -> Carry:
        """What consecutive chunks of a video hand on to each other as they are encoded."""
        return Carry()

    def seams(self, quality: int) -> Seams:
        """What joins consecutive chunks that were decoded at a quality level.

        Raises:
            QualityError: the model has no such quality level.
        """
        ruled, mending = rule(self.levels_at(quality)), self._network.mending
        if mending is None:
            return Seams(ruled)

        def mend(before: Frames, after: Frames) -> tuple[Frames, Frames]:
            shown = mending.shown(*across(before, after, ruled), quality)
            return shown[REACH - len(before) : REACH], shown[REACH : REACH + len(after)]

        return Seams(mend)

    def _padded(self, frames: Frames) -> Frames:
        """The last frame repeated up to a multiple of ``stride_t``."""
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise ValueError(f"need uint8 (T, H, W, 3) frames, not {frames.dtype} {frames.shape}")
        count, height, width = frames.shape[:3]
        if not count or not height or not width or height % self.stride or width % self.stride:
            raise ValueError(
                f"{count} frames of {width}x{height}: need at least one, "
                f"of sides that are multiples of {self.stride}"
            )
        return np.concatenate([frames, np.repeat(frames[-1:], -count % self.stride_t, axis=0)])

    def _check(self, grids: Sequence[NDArray[np.integer]]) -> None:
        if not 1 <= len(grids) <= len(self.levels):
            raise ValueError(f"{len(grids)} grids for {len(self.levels)} levels")
        covered, pages = set(), 1
        for grid, level in zip(grids, self.levels, strict=False):
            if grid.ndim != 3 or not grid.size or not np.issubdtype(grid.dtype, np.integer):
                raise ValueError(
                    f"a grid is of integers, (T', H', W'), not {grid.dtype} {grid.shape}"
                )
            if grid.min() < 0 or grid.max() >= level.entries:
                raise ValueError(f"index outside 0..{level.entries - 1}")
            t, h, w = grid.shape
            if level.details:  # the first such plane also has a page
                t, rest = divmod(t, COLOURS)
                if rest != pages:
                    raise ValueError(f"no plane of details: {grid.shape}")
                pages = 0
            covered.add((t * level.stride_t, h * level.stride, w * level.stride))
        if len(covered) > 1:
            raise ValueError(f"grids of different clips: {[grid.shape for grid in grids]}")


class _NoDraws(TorchFunctionMode):
    """Makes room for weights that are then read from a file, without first values.

    What torch does for those on "meta" is written in Python, and imports ``torch._dynamo`` and
    SymPy: 250 MiB, and as long again as importing torch takes.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return None
        if func is torch.randn:
            return torch.empty(*args, **kwargs)
        if func is torch.empty_like:
            return torch.empty(args[0].shape, dtype=args[0].dtype, **kwargs)
        return func(*args, **kwargs)


def find_device(name: str) -> torch.device:
    """The device called ``name``, tried out.

    Raises:
        CheckpointError: there is none.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CheckpointError(f"device {name}: there is none of that name") from error
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise CheckpointError(f"device {name}: {str(error).splitlines()[0]}") from error
    return device
