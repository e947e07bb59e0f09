"""The rooms of the package (docs/architecture.md) and which may import which: nothing imports upward."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import weavetime

PACKAGE = Path(weavetime.__file__).parent
ROOT = "__init__"

# A room may import these and all that they may. `errors` may be imported from everywhere.
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "config": set(),
    "types": set(),
    "video": {"types", "config"},
    "ops": set(),
    "memory": {"ops", "types", "config"},
    "focus": {"ops", "types", "config"},
    "hub": set(),
    "backbones": {"ops", "types", "config", "hub"},  # config: the record beside a model's or an adapter's weights
    "engine": {"backbones", "memory", "focus"},  # focus: the gate of a prefill, and modes that choose inside their pass
    "reply": {"engine"},
    "stream": {"video", "reply"},
    "loading": {"stream"},
    "bench": {"loading"},
    "world": {"types"},
    "pictures": set(),
    "data": {"video", "hub"},
    "eval": {"loading", "world", "pictures", "data"},
    "train": {"loading", "world", "eval", "data"},
    "serve": {"loading"},
    "integrations": {"loading"},
    # The command line reaches any room, but inside its functions: `weavetime --help` loads no model code.
    "cli": {"config"},
}


def allowed(room: str) -> set[str]:
    """Every room that `room` may import."""
    reached, todo = {room, "errors"}, [room]
    while todo:
        new = ARROWS[todo.pop()] - reached
        reached |= new
        todo += new
    return reached


def room_of(module: tuple[str, ...]) -> str:
    """The room of a module path inside the package, such as ('ops', 'rotary')."""
    return module[0] if module and module[0] in ARROWS else ROOT


def target(node: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Module paths inside weavetime that an import statement names; `package` is where the statement stands."""
    if isinstance(node, ast.Import):
        for name in (alias.name.split(".") for alias in node.names):
            if name[0] == "weavetime":
                yield tuple(name[1:])
    elif isinstance(node, ast.ImportFrom):
        path = tuple(node.module.split(".")) if node.module else ()
        if node.level:
            path = (*package[: len(package) - node.level + 1], *path)
        elif path[:1] == ("weavetime",):
            path = path[1:]
        else:
            return
        yield from ([path] if path else [(alias.name,) for alias in node.names])


def imports(tree: ast.AST, package: tuple[str, ...], *, lazy: bool) -> Iterator[tuple[int, str]]:
    """Line and room of every import of weavetime; of a `lazy` module not those in functions or for the type checker."""
    for node in ast.iter_child_nodes(tree):
        yield from ((node.lineno, room_of(t)) for t in target(node, package))  # type: ignore[attr-defined]
        if not (lazy and (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or for_types(node))):
            yield from imports(node, package, lazy=lazy)


def for_types(node: ast.AST) -> bool:
    """Whether this is an `if TYPE_CHECKING:`, which never runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def upward(source: str, path: Path) -> list[str]:
    """What is wrong with the imports of one module, at `path` inside the package."""
    package, room = path.parent.parts, path.parts[0].removesuffix(".py")
    assert room in ARROWS, f"{path}: not in a room of ARROWS"
    found = imports(ast.parse(source), package, lazy=room == "cli")
    return [f"{path}:{line}: {room} may not import {other}" for line, other in found if other not in allowed(room)]


MODULES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py"))


def test_every_module_has_a_room() -> None:
    top = {p.parts[0].removesuffix(".py") for p in MODULES}
    assert top - {ROOT, "__main__"} <= ARROWS.keys(), "a new room: add it to ARROWS and to docs/architecture.md"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_nothing_imports_upward(path: Path) -> None:
    if path.parts[0] in {"__init__.py", "__main__.py"}:
        return
    assert upward((PACKAGE / path).read_text(), path) == []


def test_config_needs_only_the_standard_library() -> None:
    tree = ast.parse((PACKAGE / "config.py").read_text())
    outside = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    outside |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level == 0}
    assert {m.split(".")[0] for m in outside} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ops/rotary.py", "from ..memory import Memory"),
        ("ops/rotary.py", "from .. import stream"),
        ("ops/rotary.py", "from .. import __version__"),
        ("ops/deep/er.py", "from ...engine.append import x"),
        ("focus/gate.py", "import weavetime.memory.index"),
        ("backbones/mini.py", "def f():\n    from weavetime.engine import Engine"),
        ("memory/index.py", "if TYPE_CHECKING:\n    from ..engine import Engine"),
        ("types.py", "import weavetime"),
        ("config.py", "from .types import Frame"),
        ("cli.py", "from .stream import Stream"),
        ("cli/ask.py", "if True:\n    from ..stream import Stream"),
    ],
)
def test_an_upward_import_is_found(path: str, source: str) -> None:
    assert len(upward(source, Path(path))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ops/rotary.py", "import torch\nfrom .layout import Layout\nfrom ..errors import ModelError"),
        ("engine/append.py", "from ..ops.rotary import rotate\nfrom ..config import Decoding"),
        ("engine/append.py", "from .. import memory, errors"),
        ("memory/__init__.py", "from .index import Index\nfrom ..types import Frame"),
        ("stream.py", "from .focus import WeaveTime\nfrom . import video"),
        ("cli.py", "def ask():\n    from .stream import Stream"),
        ("cli/ask.py", "if TYPE_CHECKING:\n    from ..stream import Stream"),
    ],
)
def test_an_arrow_is_let_through(path: str, source: str) -> None:
    assert upward(source, Path(path)) == []
