"""What the small measurements share that each print one table: arguments, and a page or JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqcodec.bench.render import to_markdown
from vqcodec.bench.tables import Table


def arguments_of(description: str) -> argparse.ArgumentParser:
    """``--root``, ``--limit``, ``--model`` and ``--json``; more may be added."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--root", type=Path, required=True, help="videos to measure on")
    parser.add_argument("--limit", type=int, help="a spread sample of so many")
    parser.add_argument("--model", help="a shipped model, or a checkpoint")
    parser.add_argument("--json", action="store_true")
    return parser


def show(table: Table, about: Sequence[str], found: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the table as a Markdown page, with lines about it, or ``found`` as JSON."""
    if as_json:
        print(json.dumps(found, indent=1))
        return
    print(f"# {table.title}\n")
    print("\n".join(about), end="\n\n")
    print(to_markdown(table), end="")
