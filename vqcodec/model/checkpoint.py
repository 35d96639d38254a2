"""Checkpoints: one safetensors file with weights, the configuration that shapes them, and a card.

Never pickle: opening a checkpoint cannot run code. The metadata of the file:

    format     FORMAT
    config     ModelConfig.to_json()
    card       JSON object: what the weights were trained on and how well they do
    prior      PriorConfig.to_json(), if there is a prior; its tensors are called prior.*
    prior_digest  hex of Prior.digest, as computed where it was trained
    model_id   hex of Checkpoint.model_id
    digest     hex SHA-256 of config, card, prior, prior_digest and every tensor
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor, nn

from vqcodec.entropy.config import PriorConfig
from vqcodec.entropy.prior import Prior
from vqcodec.errors import CheckpointError
from vqcodec.files import replacing
from vqcodec.model.config import DetailConfig, MendingConfig, ModelConfig, RestorationConfig
from vqcodec.model.digest import Stored, file_digest, hash_of
from vqcodec.model.header import read_header
from vqcodec.model.network import MSVQVAE

FORMAT = "vqcodec-model-1"
MODEL = "model.safetensors"  # what training calls its file, in a folder of its own
MAX_VALUES = 64_000_000  # of all weights and codebooks of a network

_TRAINING_ONLY = ("usage", "total", "age")
_DECODING_FIELDS = ("stride_t", "stride", "entries", "dim", "lookup_dim", "width", "decoder_blocks")
_DECODING_STAGES = ("stages", "entries", "dim", "decoder_blocks")
_FLOATS = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32"}
_INTEGERS = {torch.int8: "I8", torch.int32: "I32"}
_DTYPES = _FLOATS | _INTEGERS
_PRIOR = "prior."


@dataclass(frozen=True)
class StoredPrior:
    """A prior as a checkpoint holds it, not yet checked.

    Attributes:
        config: its architecture.
        tensors: int8 and int32, as :meth:`PriorConfig.shapes` names them.
        digest: of :meth:`Prior.digest`, as computed where it was trained.
    """

    config: PriorConfig
    tensors: dict[str, Tensor]
    digest: bytes

    def details(self) -> dict[str, NDArray[Any]]:
        """Tensors of planes of details, by name."""
        due = dataclasses.replace(self.config, planes=0).shapes()
        return {n: t.numpy() for n, t in self.tensors.items() if n not in due}

    def without_details(self) -> StoredPrior:
        """The same of codes alone, for a network whose details are not known yet."""
        config = dataclasses.replace(self.config, planes=0)
        due = config.shapes()
        return store(config, {n: t.numpy() for n, t in self.tensors.items() if n in due})

    def build(self) -> Prior:
        """The prior, ready to predict.

        Raises:
            CheckpointError: it is too large, tensors are missing, unknown, of another shape or
                dtype, or out of range, or it does not compute here what it did where it was
                trained: files could not be decoded.
        """
        values = sum(tensor.numel() for tensor in self.tensors.values())
        if values > MAX_VALUES:
            raise CheckpointError(f"a prior of {values} values; {MAX_VALUES} are the limit")
        arrays = {name: tensor.numpy() for name, tensor in self.tensors.items()}
        prior = Prior.from_tensors(self.config, arrays)
        if prior.digest() != self.digest:
            raise CheckpointError("its prior computes other numbers here than where it was trained")
        return prior


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        config: the architecture.
        tensors: state of the network, as stored (half precision but for the codebooks).
        card: what it was trained on and how well it does; free-form JSON values.
        prior: what predicts its indices, if one was trained for it.
    """

    config: ModelConfig
    tensors: dict[str, Tensor]
    card: dict[str, Any]
    prior: StoredPrior | None = None

    @property
    def model_id(self) -> bytes:
        """32 bytes: SHA-256 of all that decides decoded pictures. Files store the first 8.

        That is the decoder's fields of the configuration, and the name, dtype, shape and bytes of
        every tensor the decoder reads, the prior's among them. A better encoder for the same
        decoder keeps the identity.
        """
        levels = [
            {field: getattr(level, field) for field in _DECODING_FIELDS}
            | ({"fill_blocks": level.fill_blocks} if level.split else {})
            for level in self.config.levels
        ]
        stages = self.config.refinement
        refinement = stages and {field: getattr(stages, field) for field in _DECODING_STAGES}
        shape = {
            "levels": levels,
            "refinement": refinement,
            "tail_blocks": self.config.tail_blocks,
        }
        parts = json.loads(self.config.to_json())
        shape |= {
            name: parts[name] for name in ("details", "restoration", "mending") if name in parts
        }
        decoder = {
            name: tensor
            for name, tensor in self.tensors.items()
            if not name.startswith("analysis.")
        }
        preamble = json.dumps(shape, sort_keys=True)
        if self.prior is not None:
            preamble += self.prior.config.to_json()
            decoder |= _prefixed(self.prior)
        return _hash(preamble, decoder)

    @property
    def network_id(self) -> bytes:
        """32 bytes: SHA-256 of the network, encoder and all: of what decides indices."""
        return _hash(self.config.to_json(), self.tensors)

    def with_details(self, details: DetailConfig | None) -> Checkpoint:
        """The same with other details, and nothing that restores or mends; the prior stays."""
        bare = self.with_restoration(None)
        config = dataclasses.replace(bare.config, details=details)
        return dataclasses.replace(bare, config=config)

    def with_restoration(
        self, shape: RestorationConfig | None, weights: Mapping[str, Tensor] | None = None
    ) -> Checkpoint:
        """The same with another restoration, or with none, and nothing that mends."""
        return self.with_mending(None)._with("restoration", shape, weights)

    def with_mending(
        self, shape: MendingConfig | None, weights: Mapping[str, Tensor] | None = None
    ) -> Checkpoint:
        """The same with another network that mends, or with none."""
        return self._with("mending", shape, weights)

    def _with(self, part: str, shape: Any, weights: Mapping[str, Tensor] | None) -> Checkpoint:
        """The same with another part of the network, or with none; the card tells of none."""
        tensors = {
            name: tensor for name, tensor in self.tensors.items() if not name.startswith(f"{part}.")
        }
        for name, tensor in (weights or {}).items():
            tensors[f"{part}.{name}"] = _stored(tensor, torch.float16)
        config = dataclasses.replace(self.config, **{part: shape})
        card = {name: told for name, told in self.card.items() if name != part}
        return dataclasses.replace(self, config=config, tensors=tensors, card=card)

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
            tensor.dtype in _FLOATS and bool(tensor.isfinite().all())
            for tensor in self.tensors.values()
        ):
            raise CheckpointError("weights are not finite floating-point numbers")
        network.to_empty(device="cpu")
        for name, buffer in network.named_buffers():
            if _training_only(name):
                buffer.zero_()
        network.load_state_dict(self.tensors, strict=False)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):  # as its inputs are, or each call makes a copy
                module.to(memory_format=torch.channels_last)
        return network.eval().requires_grad_(False)


def export(network: MSVQVAE, card: dict[str, Any]) -> Checkpoint:
    """A network's inference state as a :class:`Checkpoint`: half precision, float32 codebooks."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        if not _training_only(name):
            dtype = torch.float32 if name.endswith(".codebook") else torch.float16
            tensors[name] = _stored(tensor, dtype)
    return Checkpoint(network.config, tensors, card)


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().cpu().to(dtype, copy=True).contiguous()


def store(config: PriorConfig, arrays: Mapping[str, NDArray[Any]]) -> StoredPrior:
    """A prior's tensors as a checkpoint holds them.

    Raises:
        CheckpointError: they do not fit ``config``.
    """
    digest = Prior.from_tensors(config, arrays).digest()
    tensors = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
    return StoredPrior(config, tensors, digest)


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write ``checkpoint`` to ``path``, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "config": checkpoint.config.to_json(),
        "card": json.dumps(checkpoint.card, sort_keys=True),
        "model_id": checkpoint.model_id.hex(),
    }
    tensors = dict(checkpoint.tensors)
    if checkpoint.prior is not None:
        metadata["prior"] = checkpoint.prior.config.to_json()
        metadata["prior_digest"] = checkpoint.prior.digest.hex()
        tensors |= _prefixed(checkpoint.prior)
    metadata["digest"] = _digest(metadata, tensors)
    with replacing(path, force=True) as temporary:
        temporary.write_bytes(pack_tensors(tensors, metadata))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: missing, unreadable, too large, damaged, or not a vqcodec checkpoint.
    """
    metadata, tensors = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a vqcodec checkpoint (format {FORMAT} expected)")
    for name, tensor in tensors.items():
        if name.startswith(_PRIOR) and tensor.dtype not in _INTEGERS:
            raise CheckpointError(f"{path}: a prior is not of 8 or 32-bit integers: {name}")
        if not name.startswith(_PRIOR) and tensor.dtype not in _FLOATS:
            raise CheckpointError(f"{path}: weights are not floating-point numbers: {name}")
    try:
        if metadata["digest"] != _digest(metadata, tensors):
            raise CheckpointError("damaged: its digest does not match")
        card = json.loads(metadata["card"])
        if not isinstance(card, dict):
            raise CheckpointError("its card is not a JSON object")
        config = ModelConfig.from_json(metadata["config"])
        prior = _read_prior(metadata, tensors, config)
        network = {name: t for name, t in tensors.items() if not name.startswith(_PRIOR)}
        checkpoint = Checkpoint(config, network, card, prior)
        if metadata["model_id"] != checkpoint.model_id.hex():
            raise CheckpointError("damaged: its model_id does not match")
    except KeyError as error:
        raise CheckpointError(f"{path}: no {error} in its metadata") from error
    except (ValueError, RecursionError, CheckpointError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return checkpoint


def _read_prior(
    metadata: Mapping[str, str], tensors: Mapping[str, Tensor], model: ModelConfig
) -> StoredPrior | None:
    found = {
        name.removeprefix(_PRIOR): tensor
        for name, tensor in tensors.items()
        if name.startswith(_PRIOR)
    }
    if "prior" not in metadata:
        if found:
            raise CheckpointError("tensors of a prior, and no prior")
        return None
    config = PriorConfig.from_json(metadata["prior"])
    own = [(level.stride_t, level.stride, level.entries, False) for level in config.levels]
    if own != list(model.code_grids) or config.planes != len(model.detail_grids):
        raise CheckpointError("its prior is for another architecture")
    return StoredPrior(config, found, bytes.fromhex(metadata["prior_digest"]))


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


def _prefixed(prior: StoredPrior) -> dict[str, Tensor]:
    return {f"{_PRIOR}{name}": tensor for name, tensor in prior.tensors.items()}


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    return file_digest(metadata, _as_stored(tensors))


def _hash(preamble: str, tensors: Mapping[str, Tensor]) -> bytes:
    return hash_of(preamble, _as_stored(tensors))


def _as_stored(tensors: Mapping[str, Tensor]) -> dict[str, Stored]:
    return {
        name: Stored(
            _DTYPES[tensor.dtype],
            tuple(tensor.shape),
            tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data,
        )
        for name, tensor in tensors.items()
    }
