"""Network and prior trained as one: what indices cost becomes a part of the loss.

Which code is nearest has no gradient. As if z carried noise, it is taken to be entry k with
probability softmax(-‖z − e_k‖² / τ), and to cost what the prior says entry k costs in that place:
the encoder learns to say the same in cheaper codes. The prior learns to predict what is coded,
and so keeps up.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vqcodec.model.network import MSVQVAE
from vqcodec.train.prior_network import PriorNetwork

NOISE = 0.25  # τ, of the level's mean quantisation error
SAMPLED = 4  # of each so many places one has its expected bits worked out


class Priced(NamedTuple):
    """A training pass; see :class:`vqcodec.model.network.Output`.

    Attributes:
        clip, commitment: of the network.
        rate: scalar, mean over clips of the expected bits as a share of the bits. It is 1, or a
            little more; what counts is its gradient, which is that of the logarithm of the rate.
        surprise: scalar, bits an index, summed over levels: the prior's own loss.
    """

    clip: Tensor
    commitment: Tensor
    rate: Tensor
    surprise: Tensor


class PricedNetwork(nn.Module):
    """A network and the prior of its indices, in one training pass.

    Args:
        network, prior: of one architecture.
    """

    def __init__(self, network: MSVQVAE, prior: PriorNetwork) -> None:
        super().__init__()
        self.network, self.prior = network, prior

    def forward(self, clip: Tensor, quality: Tensor | None = None) -> Priced:
        """Encode and decode (B, 3, T, H, W) in 0..1; of each clip ``quality`` (B,) levels count."""
        output = self.network(clip, quality)
        if quality is None:
            quality = torch.full((len(clip),), len(output.indices))
        quality = quality.to(clip.device)
        bits = clip.new_zeros(len(clip))
        expected = clip.new_zeros(len(clip))
        surprise = clip.new_zeros(())
        with torch.autocast(clip.device.type, enabled=False):  # integers, exact in float32 alone
            for number in range(int(quality.max())):
                used = quality > number
                grids = [grid[used].int() for grid in output.indices[: number + 1]]
                books = self.network.codebooks()[: number + 1]
                nothing = [
                    torch.full_like(grid, len(book))
                    for grid, book in zip(grids, books, strict=True)
                ]
                level = self.prior.level(number)
                costs = level.bits(grids, nothing)
                surprise = surprise + costs.mean()
                bits[used] += costs.detach().flatten(1).sum(1)
                places = costs.numel()
                chosen = torch.randperm(places, device=clip.device)[: -(-places // SAMPLED)]
                tables = level.tables(grids, nothing, chosen)
                rows = output.latents[number][used].movedim(1, -1).flatten(0, 3)[chosen]
                symbols = grids[number].flatten()[chosen].long()
                guess = number in self.network.config.odd_grids
                per_row = _expected(rows.float(), books[number], symbols, tables, guess=guess)
                clips = used.nonzero()[:, 0][chosen * len(grids[0]) // places]
                expected = expected.index_add(0, clips, per_row * (places / len(chosen)))
        rate = (expected / bits.clamp(min=1)).mean()
        return Priced(output.clip, output.commitment, rate, surprise)


def _expected(
    z: Tensor, codebook: Tensor, symbols: Tensor, costs: Tensor, *, guess: bool = False
) -> Tensor:
    """(N, C), (K, C), (N,), (N, K) → (N,) expected bits.

    With ``guess`` symbol 0 stands for what the decoder guesses, not for an entry.
    """
    # ‖z‖² is the same for all entries.
    closeness = torch.addmm(codebook.square().sum(1) / -2, z, codebook.T)
    if guess:
        closeness[:, 0] = -torch.inf
    # A guess, or a residual stage's zero entry, stands where another is nearer but not worth it:
    # there a small step changes nothing.
    nearest = closeness.argmax(1) == symbols
    apart = (z.detach() - codebook[symbols]).square().sum(1)
    noise = NOISE * (apart * nearest).sum() / nearest.sum().clamp(min=1)
    expected = ((closeness * (2 / noise.clamp(min=1e-12))).softmax(1) * costs).sum(1)
    return torch.where(nearest, expected, costs.gather(1, symbols[:, None])[:, 0])
