"""The whole state of a run in one safetensors file, so that it resumes bit for bit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as pack_tensors
from torch import Tensor, nn

from vqcodec.errors import CheckpointError
from vqcodec.files import replacing
from vqcodec.model.checkpoint import read_safetensors

FORMAT = "vqcodec-training-1"


@dataclass(frozen=True)
class State:
    """A saved state.

    Attributes:
        path: where it was read.
        info: what the run noted beside its tensors.
        tensors: ``network.*``, ``optimizer.INDEX.SLOT`` and ``random.*``.
    """

    path: Path
    info: dict[str, Any]
    tensors: dict[str, Tensor]

    def restore(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put weights, codebook averages, optimiser moments and random state back in place.

        Raises:
            CheckpointError: of another architecture.
        """
        try:
            network.load_state_dict(self._group("network"))
            slots = self._slots([p for group in optimizer.param_groups for p in group["params"]])
            optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
            random = self._group("random")
            torch.set_rng_state(random["cpu"])
            device = next(network.parameters()).device
            if device.type == "cuda" and "cuda" in random:
                torch.cuda.set_rng_state(random["cuda"], device)
        except (RuntimeError, ValueError, TypeError, LookupError) as error:
            raise CheckpointError(f"{self.path}: state of another architecture") from error

    def _group(self, name: str) -> dict[str, Tensor]:
        prefix = f"{name}."
        return {
            key.removeprefix(prefix): tensor
            for key, tensor in self.tensors.items()
            if key.startswith(prefix)
        }

    def _slots(self, parameters: list[nn.Parameter]) -> dict[int, dict[str, Tensor]]:
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in self._group("optimizer").items():
            index, _, slot = name.partition(".")
            # An optimiser takes any shape, and trips over it in its next step.
            if tensor.ndim and tensor.shape != parameters[int(index)].shape:
                raise ValueError(f"{name}: shape {list(tensor.shape)}")
            slots.setdefault(int(index), {})[slot] = tensor
        return slots


def save_state(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, info: dict[str, Any]
) -> None:
    """Write weights, codebook averages, optimiser moments, random state and ``info`` (JSON)."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        for name, tensor in slots.items():
            tensors[f"optimizer.{index}.{name}"] = tensor
    tensors["random.cpu"] = torch.get_rng_state()
    device = next(network.parameters()).device
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"format": FORMAT, "info": json.dumps(info)}
    with replacing(path, force=True) as temporary:
        temporary.write_bytes(pack_tensors(packed, metadata))


def read_state(path: Path) -> State:
    """Read what :func:`save_state` wrote.

    Raises:
        CheckpointError: missing, damaged, or not a training state.
    """
    metadata, tensors = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a training state of vqcodec")
    try:
        info = json.loads(metadata["info"])
    except (ValueError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error
    return State(path, info, tensors)
