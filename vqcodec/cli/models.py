"""``vqcodec models``."""

from __future__ import annotations

import contextlib
import json

import click

from vqcodec.cli import options


@click.command()
@options.as_json
def models(as_json: bool) -> None:
    """List the models that are shipped: name, size, identity, quality on held-out clips."""
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
            validation = model.card["validation"]
            levels = list(zip(validation["psnr"], validation["bpp"], strict=True))
            told = ", ".join(f"{psnr:.2f} dB at {bpp:.4f}" for psnr, bpp in levels[:3])
            if len(levels) > 3:
                told += " … {:.2f} dB at {:.4f}".format(*levels[-1])
            told += " bpp, fixed length"
        mark = "*" if model.name == DEFAULT else " "
        print(f"{mark} {model.name:12} {model.model_id[:16]}  {model.bytes:>10} bytes  {told}")
