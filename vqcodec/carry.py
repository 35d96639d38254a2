"""What a chunk hands on to the next: the error of its last frame, part of which that one repeats.

An error that stays is seen far less than one that changes. Inside a chunk, errors of details change
slowly, as they are those of a cosine transform over all of its frames or, where things move, over
parts of them; from one chunk to the next they would change at once. So what details are to bring
the first frames of a chunk to is not their source but, less and less, their source with the error
that the frame before them ended with. This is of the encoder alone: what it writes is decoded as
ever, each chunk on its own. It costs some PSNR: less in short chunks, of which it would be a large
part, and little at coarser quality levels, as the error is that of the finest: so a file cut to a
level is as if it had been encoded there. It is the error of what all planes say, before that is
restored. Scene cuts on a border are not looked for.

Only time matters here: errors stay coefficients of frequencies in space, which are the same in each
chunk.

The shares were chosen on videos of the validation part and of the training footage
(``docs/training-log.md``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqcodec.entropy.details import BLOCK, COLOURS
from vqcodec.model.details import Coefficients, in_time

SHARE = 0.7  # of the error that the first frame repeats
FADE = 0.5  # the same for each frame after it
WHOLE = 32  # frames; shorter chunks repeat less, in proportion


class Carry:
    """For consecutive chunks of one video, which are encoded in order.

    Attributes:
        estimate: what all planes but the last go by.
        error: what the last one does.
    """

    def __init__(self) -> None:
        self.estimate, self.error = Error(), Error()


class Error:
    """Of a chunk's last frame."""

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
        """Take that of a chunk.

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
