"""``vqcodec models``."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import click

from vqcodec.cli import options


@click.command()
@options.as_json
def models(as_json: bool) -> None:
    """List the models that are shipped: name, identity, size, and the PSNR of each quality level.

    It is of clips that were held out of training, coded with effort 0.
    """
    from vqcodec.model.registry import DEFAULT, shipped

    found = shipped()
    if as_json:
        print(
            json.dumps(
                [
                    {
                        "name": model.name,
                        "path": str(model.path),
                        "bytes": model.bytes,
                        "model": model.model_id,
                        "default": model.name == DEFAULT,
                        "card": model.card,
                    }
                    for model in found
                ]
            )
        )
        return
    for model in found:
        told = ""
        with contextlib.suppress(KeyError, TypeError, ValueError):  # of no validation
            told = ", ".join(f"{psnr:.2f}" for psnr in _quality(model.card)) + " dB"
        mark = "*" if model.name == DEFAULT else " "
        print(f"{mark} {model.name:12} {model.model_id[:16]}  {model.bytes:>10} bytes  {told}")


def _quality(card: dict[str, Any]) -> list[float]:
    """PSNR by quality level, as the last stage of training that changed pictures measured it.

    Raises:
        KeyError, TypeError: none did.
    """
    if "restoration" in card:
        restored: list[float] = card["restoration"]["validation"]["after"]
        return restored
    decoded: list[float] = card["validation"]["psnr"]
    return decoded
