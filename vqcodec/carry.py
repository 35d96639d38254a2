"""What a chunk hands on to the next: the error of its last frame, part of which that one repeats.

An error that stays is seen far less than one that changes. Inside a chunk, errors of details change
slowly, as they are those of a cosine transform over all of its frames or, where things move, over
parts of them; from one chunk to the next they would change at once. So what details are to bring
the first frames of a chunk to is not their source but, less and less, their source with the error
that the frame before them ended with. This is of the encoder alone: what it writes is decoded as
ever, each chunk on its own. It costs some PSNR: less in short chunks, of which it would be a large
part, and little at coarser quality levels, as the error is that of the finest.

It is the error of what all planes say, before that is restored; the last plane goes by it. Where it
is not written, it is not known, as planes aim at what is restored behind those before. So all
others go by an estimate, whatever is written: what planes would say that do not aim, which takes no
network. So a file cut to a level is as if it had been encoded there. Scene cuts on a border are not
looked for.

Only time matters here: errors stay coefficients of frequencies in space, which are the same in each
chunk.

The shares were chosen on videos of the validation part and of the training footage
(``docs/training-log.md``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqcodec.entropy.details import BLOCK, COLOURS
from vqcodec.model.config import DetailConfig
from vqcodec.model.details import Coefficients, in_time, unaimed

SHARE = 0.7  # of the error that the first frame repeats
FADE = 0.5  # the same for each frame after it
WHOLE = 32  # frames; shorter chunks repeat less, in proportion


class Carry:
    """For consecutive chunks of one video, which are encoded in order."""

    def __init__(self) -> None:
        self._estimate, self._finest = Residue(), Residue()

    def onto(self, lacking: Coefficients) -> tuple[Coefficients, Coefficients]:
        """What details are to say of a clip that lacks so much: all planes but the last, and it."""
        return self._estimate.onto(lacking), self._finest.onto(lacking)

    def keep(
        self,
        lacking: Coefficients,
        wanted: Coefficients,
        said: Tensor | None,
        config: DetailConfig,
    ) -> None:
        """Take what a chunk hands on.

        Args:
            lacking: what it lacks.
            wanted: what all planes but the last were to say.
            said: what all planes say, as their grid; None if they are not all written.
            config: of the details.
        """
        self._estimate.keep(lacking, unaimed(wanted, config))
        self._finest = Residue()
        if said is not None:
            self._finest.keep(lacking, said)


class Residue:
    """The error of a chunk's last frame, for the chunk after it."""

    def __init__(self) -> None:
        self._error: Tensor | None = None  # (1, 3, H, W), of frequencies in space

    def onto(self, coefficients: Coefficients) -> Coefficients:
        """What the next chunk lacks, one clip's → the same with part of the error.

        The first chunk's are as they are.
        """
        if self._error is None:
            return coefficients
        grid, splits = coefficients
        frames = grid.shape[1] // COLOURS
        share = SHARE * min(1.0, frames / WHOLE)
        fading = (share * FADE ** torch.arange(frames, dtype=torch.float64)).to(grid)
        added = self._error[:, :, None] * _everywhere(in_time(splits[0], frames) @ fading)
        return Coefficients(grid + added.flatten(1, 2), splits)

    def keep(self, coefficients: Coefficients, said: Tensor) -> None:
        """Take the error of a chunk.

        Args:
            coefficients: what it lacks in truth.
            said: what planes of details say that it lacks, as their grid.
        """
        grid, splits = coefficients
        _, steps, height, width = grid.shape
        errors = (said - grid).reshape(1, COLOURS, steps // COLOURS, height, width)
        last = in_time(splits[0], errors.shape[2])[..., -1]
        self._error = (errors * _everywhere(last)).sum(2)


def _everywhere(blocks: Tensor) -> Tensor:
    """(H/8, W/8, F) → (F, H, W): the same at all frequencies in space, as they lie in a grid."""
    return blocks.permute(2, 0, 1).tile(1, BLOCK, BLOCK)
