"""What imports what, held against the table of ``docs/architecture.md``.

All imports count: those inside functions, as that only puts them off, and those of types alone, as
what has a type is known. Only where torch or PyAV is to stay away does it matter when one happens.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vqcodec"
BASE = {"errors", "files", "limits"}  # all may import these


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def imports(source: str, *, at_once: bool = False) -> Iterator[str]:
    """The modules that a source names; ``at_once``: of those, what importing it imports."""
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inside = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in SOURCES else node.module for name in inside)
        elif at_once and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        elif at_once and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def part_of(module: str) -> str:
    """The row of the table that a module of this package is in."""
    return [*module.split("."), "__init__"][1]


def rows() -> dict[str, tuple[set[str], bool]]:
    """By part, in the table's order: what it imports beside ``BASE``, and whether torch."""
    lines = (ROOT / "docs" / "architecture.md").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| part |"))
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        part, _, imported, _ = (cell.strip() for cell in line.strip("|").split(" | "))
        for name in part.removesuffix(" †").split(", "):
            listed = set() if imported == "none" else set(imported.split(", "))
            found[plain(name)] = ({plain(other) for other in listed}, part.endswith(" †"))
    return found


def plain(name: str) -> str:
    return name.strip("`").removesuffix("/").removesuffix(".py")


def found(sources: dict[str, str]) -> dict[str, set[str]]:
    """By part: the other parts that it imports, but for ``BASE``."""
    parts: dict[str, set[str]] = {part_of(module): set() for module in sources}
    for module, source in sources.items():
        part = part_of(module)
        own = {part_of(name) for name in imports(source) if name.split(".")[0] == "vqcodec"}
        parts[part] |= own - {part} - BASE
    return parts


def loaded_with(part: str) -> set[str]:
    """The packages that importing all modules of a part imports, by whatever way."""
    waiting = [module for module in SOURCES if part_of(module) == part]
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in SOURCES and module not in seen:
            waiting += [module.rpartition(".")[0], *imports(SOURCES[module], at_once=True)]
        seen.add(module)
    return {module.split(".")[0] for module in seen}


def test_the_table_tells_of_all_imports():
    assert found(SOURCES) == {part: imported for part, (imported, _) in rows().items()}


def test_each_part_imports_what_stands_below_it():
    order = list(rows())
    for part, (imported, _) in rows().items():
        assert imported <= set(order[order.index(part) + 1 :]), part


def test_marked_parts_load_torch():
    marked = {part for part, (_, torch) in rows().items() if torch}
    assert marked == {part for part in rows() if "torch" in loaded_with(part)}


def test_pyav_is_used_for_videos_and_by_peers_alone():
    packages = {part_of(m): set() for m in SOURCES}
    for module, source in SOURCES.items():
        packages[part_of(module)] |= {name.split(".")[0] for name in imports(source)}
    assert {part for part, own in packages.items() if "av" in own} == {"video", "bench"}


@pytest.mark.parametrize("part", ["__main__", "cli", "container", "indices"])
def test_what_must_start_fast_loads_neither_torch_nor_pyav(part):
    assert not loaded_with(part) & {"torch", "av"}


@pytest.mark.parametrize(
    ("source", "at_once"),
    [
        ("import vqcodec.train.loop", True),
        ("from vqcodec.train.loop import train", True),
        ("from vqcodec.train import loop", True),
        ("try:\n    import vqcodec.train.loop\nexcept ImportError:\n    pass", True),
        ("class A:\n    import vqcodec.train.loop", True),
        ("def f():\n    import vqcodec.train.loop", False),
        ("if TYPE_CHECKING:\n    import vqcodec.train.loop", False),
    ],
)
def test_an_import_is_seen_wherever_it_stands(source, at_once):
    assert list(imports(source)) == ["vqcodec.train.loop"]
    assert list(imports(source, at_once=True)) == ["vqcodec.train.loop"] * at_once
    assert found({"vqcodec.container.reader": source}) == {"container": {"train"}}
