"""Checkpoints: one safetensors file with weights, the configuration that shapes them, and a card.

Never pickle: opening a checkpoint cannot run code. The metadata of the file:

    format     FORMAT
    config     ModelConfig.to_json()
    card       JSON object: what the weights were trained on and how well they do
    model_id   hex of Checkpoint.model_id
    digest     hex SHA-256 of config, card and every tensor
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor

from vqcodec.errors import CheckpointError
from vqcodec.files import replacing
from vqcodec.model.config import ModelConfig
from vqcodec.model.header import read_header
from vqcodec.model.network import MSVQVAE

FORMAT = "vqcodec-model-1"
MAX_VALUES = 64_000_000  # of all weights and codebooks of a network

_TRAINING_ONLY = ("usage", "total", "age")
_DECODING_FIELDS = ("stride_t", "stride", "entries", "dim", "lookup_dim", "width", "decoder_blocks")
_DTYPES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32"}


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        config: the architecture.
        tensors: state of the network, as stored (half precision but for the codebooks).
        card: what it was trained on and how well it does; free-form JSON values.
    """

    config: ModelConfig
    tensors: dict[str, Tensor]
    card: dict[str, Any]

    @property
    def model_id(self) -> bytes:
        """32 bytes: SHA-256 of all that decides decoded pictures. Files store the first 8.

        That is the decoder's fields of the configuration, and the name, dtype, shape and bytes of
        every tensor the decoder reads. A better encoder for the same decoder keeps the identity.
        """
        levels = [
            {field: getattr(level, field) for field in _DECODING_FIELDS}
            for level in self.config.levels
        ]
        decoder = {
            name: tensor
            for name, tensor in self.tensors.items()
            if not name.startswith("analysis.")
        }
        return _hash(json.dumps(levels, sort_keys=True), decoder)

    def build(self) -> MSVQVAE:
        """The network in float32, ready for inference. Draws no random numbers.

        Raises:
            CheckpointError: the network is too large, or tensors are missing, unknown, of another
                shape or dtype, or not finite.
        """
        with torch.device("meta"):
            network = MSVQVAE(self.config)
        shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
        values = sum(shape.numel() for shape in shapes.values())
        if values > MAX_VALUES:
            raise CheckpointError(f"a network of {values} values; {MAX_VALUES} are the limit")
        expected = {name: shape for name, shape in shapes.items() if not _training_only(name)}
        found = {name: tensor.shape for name, tensor in self.tensors.items()}
        if expected != found:
            wrong = sorted(
                name
                for name in expected.keys() | found.keys()
                if expected.get(name) != found.get(name)
            )
            raise CheckpointError(
                f"weights do not fit the configuration: {wrong[0]}"
                + (f" and {len(wrong) - 1} more" if len(wrong) > 1 else "")
            )
        if not all(
            tensor.dtype in _DTYPES and bool(tensor.isfinite().all())
            for tensor in self.tensors.values()
        ):
            raise CheckpointError("weights are not finite floating-point numbers")
        network.to_empty(device="cpu")
        for name, buffer in network.named_buffers():
            if _training_only(name):
                buffer.zero_()
        network.load_state_dict(self.tensors, strict=False)
        return network.eval().requires_grad_(False)


def export(network: MSVQVAE, card: dict[str, Any]) -> Checkpoint:
    """A network's inference state as a :class:`Checkpoint`: half precision, float32 codebooks."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        if not _training_only(name):
            dtype = torch.float32 if name.endswith(".codebook") else torch.float16
            tensors[name] = tensor.detach().cpu().to(dtype, copy=True).contiguous()
    return Checkpoint(network.config, tensors, card)


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write ``checkpoint`` to ``path``, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    config, card = checkpoint.config.to_json(), json.dumps(checkpoint.card, sort_keys=True)
    metadata = {
        "format": FORMAT,
        "config": config,
        "card": card,
        "model_id": checkpoint.model_id.hex(),
        "digest": _hash(f"{config}\n{card}\n", checkpoint.tensors).hex(),
    }
    with replacing(path, force=True) as temporary:
        temporary.write_bytes(pack_tensors(checkpoint.tensors, metadata))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: missing, unreadable, too large, damaged, or not a vqcodec checkpoint.
    """
    metadata, tensors = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a vqcodec checkpoint (format {FORMAT} expected)")
    if any(tensor.dtype not in _DTYPES for tensor in tensors.values()):
        raise CheckpointError(f"{path}: weights are not floating-point numbers")
    try:
        config_text, card_text = metadata["config"], metadata["card"]
        if metadata["digest"] != _hash(f"{config_text}\n{card_text}\n", tensors).hex():
            raise CheckpointError("damaged: its digest does not match")
        card = json.loads(card_text)
        if not isinstance(card, dict):
            raise CheckpointError("its card is not a JSON object")
        checkpoint = Checkpoint(ModelConfig.from_json(config_text), tensors, card)
        if metadata["model_id"] != checkpoint.model_id.hex():
            raise CheckpointError("damaged: its model_id does not match")
    except KeyError as error:
        raise CheckpointError(f"{path}: no {error} in its metadata") from error
    except (ValueError, RecursionError, CheckpointError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return checkpoint


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file, with sizes checked before anything is read.

    Raises:
        CheckpointError: missing, unreadable, too large or damaged.
    """
    header = read_header(path)
    try:
        return header.metadata, parse_tensors(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error


def _training_only(name: str) -> bool:
    return name.rsplit(".", 1)[-1] in _TRAINING_ONLY


def _hash(preamble: str, tensors: Mapping[str, Tensor]) -> bytes:
    """SHA-256 of ``preamble`` and the name, dtype, shape and bytes of each tensor, by name."""
    digest = hashlib.sha256(preamble.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {_DTYPES[tensor.dtype]} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()
