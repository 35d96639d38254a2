"""The interface every codec of the benchmark has, and the list of those there are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Encoded:
    """One coded clip and what it costs.

    Attributes:
        stream_bytes: the coded pictures alone, without file structure and version banners.
        file_bytes: the whole file, as written to disk.
        payload: the file itself; all that :meth:`Codec.decode` gets.
        fixed_bits: bits of the indices at fixed length (the paper's formula); None for peers.
        deflate_bytes: bytes of the indices after DEFLATE; None for peers.
    """

    stream_bytes: int
    file_bytes: int
    payload: bytes
    fixed_bits: int | None = None
    deflate_bytes: int | None = None


class Codec(Protocol):
    """A codec with a ladder of settings, from high rate to low.

    Attributes:
        name: short and unique, as given to ``--codec``.
        title: one line for tables.
        ladder: the settings measured, each a label that :meth:`encode` understands.
        identity: everything besides the setting that decides the coded bytes or the decoded
            pictures (library versions, options, model hash): part of the cache key.
    """

    name: str
    title: str
    ladder: tuple[str, ...]
    identity: str

    def encode(self, frames: Frames, rate: Fraction, setting: str) -> Encoded:
        """Code uint8 (T, H, W, 3) RGB frames at ``rate`` frames a second."""
        ...

    def decode(self, payload: bytes) -> Frames:
        """The frames of :attr:`Encoded.payload`, uint8 (T, H, W, 3) RGB."""
        ...


class CodecMissingError(Exception):
    """This installation lacks what the codec needs; the message says what."""


class UnknownCodecError(ValueError):
    """No codec has that name; the message lists those there are."""


OURS = "vqcodec"


def is_ours(name: str) -> bool:
    """Whether a codec name means this project's codec."""
    return re.match(rf"{OURS}(@[^:]*)?(:|$)", name) is not None


def build(name: str) -> Codec:
    """The codec called ``name``: a peer of :data:`peers.PEERS`, or ``vqcodec[@EFFORT][:MODEL]``.

    Raises:
        CodecMissingError: FFmpeg lacks the encoder, or there is no such model.
        UnknownCodecError: no codec has that name.
    """
    if is_ours(name):  # the only one that needs torch
        from vqcodec.bench.ours import VqcodecAdapter

        return VqcodecAdapter(name)
    from vqcodec.bench.peers import PEERS, FFmpegCodec

    if name in PEERS:
        return FFmpegCodec(PEERS[name])
    raise UnknownCodecError(
        f"no codec {name!r}; there are {OURS}[@EFFORT][:MODEL], {', '.join(PEERS)}"
    )


def available_names() -> tuple[str, ...]:
    """What is measured if nothing is named: every shipped checkpoint, then every peer."""
    from vqcodec.bench.peers import PEERS
    from vqcodec.model import registry

    shipped = tuple(f"{OURS}:{model.name}" for model in registry.shipped())
    return (*(shipped or (OURS,)), *PEERS)
