"""What a chunk hands on to the next: the error of its last frame, part of which that one repeats.

An error that stays is seen far less than one that changes. Inside a chunk, errors of details change
slowly, as they are those of a cosine transform over all of its frames; from one chunk to the next
they would change at once. So what details are to bring the first frames of a chunk to is not their
source but, less and less, their source with the error that the frame before them ended with. This
is of the encoder alone: what it writes is decoded as ever, each chunk on its own.

The shares were chosen on footage set aside from training (``docs/training-log.md``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqcodec.entropy.details import COLOURS
from vqcodec.model.details import Quantised, analyse, synthesise

SHARE = 0.7  # of the error that the first frame repeats
FADE = 0.5  # the same for each frame after it


class Carry:
    """For consecutive chunks of one video, which are encoded in order."""

    def __init__(self) -> None:
        self._error: Tensor | None = None

    def onto(self, coefficients: Tensor) -> Tensor:
        """What the next chunk lacks, (1, 3 F, H, W) coefficients → the same with part of the error.

        The first chunk's are as they are.
        """
        if self._error is None:
            return coefficients
        frames = coefficients.shape[1] // COLOURS
        shares = SHARE * FADE ** torch.arange(frames, device=coefficients.device)
        return coefficients + analyse(self._error[:, :, None] * shares[:, None, None])

    def keep(self, coefficients: Tensor, found: Quantised) -> None:
        """Take the error of a chunk's last frame.

        Args:
            coefficients: (1, 3 F, H, W), what it lacks in truth.
            found: what details say of that.
        """
        self._error = (255 * found.likely - synthesise(coefficients))[:, :, -1]
