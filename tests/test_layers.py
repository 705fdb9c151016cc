"""Which package may use which: each stands on those of lower layers, and on no other of its own."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import headcount

ROOT = Path(headcount.__file__).parent
LAYERS = (
    {"addresses", "npm", "logs", "background", "settings", "wire", "web"},
    {"metrics", "database", "embedded", "client"},
    {"ingest", "live", "sensors", "notices", "uptime", "demo"},
    {"http"},
    {"routes"},
    {"app"},
    {"commands"},
    {"cli"},
)
# These may stand on others of their layer.
JOINED = (0, 1)
LAYER_OF = {name: layer for layer, names in enumerate(LAYERS) for name in names}
BELOW_HTTP = sorted(name for names in LAYERS[:3] for name in names)


def files_of(name: str) -> Iterator[Path]:
    yield from (ROOT / name).rglob("*.py") if (ROOT / name).is_dir() else [ROOT / f"{name}.py"]


def imported(file: Path) -> Iterator[str]:
    """The modules that a file imports, and what it takes of a package."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_module_has_a_layer() -> None:
    found = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - {"__init__"} == set(LAYER_OF)


@pytest.mark.parametrize("name", sorted(LAYER_OF))
def test_it_stands_on_lower_layers_only(name: str) -> None:
    layer = LAYER_OF[name]
    for file in files_of(name):
        for module in imported(file):
            if not module.startswith("headcount."):
                continue
            used = module.split(".")[1]
            is_lower = LAYER_OF[used] < layer or used == name or (LAYER_OF[used] == layer and layer in JOINED)
            assert is_lower, f"{file.relative_to(ROOT)} uses {module}"


@pytest.mark.parametrize("name", BELOW_HTTP)
def test_nothing_below_http_knows_a_request(name: str) -> None:
    for file in files_of(name):
        for module in imported(file):
            # types of ASGI are what a stream and a measure of answers are written in
            assert not module.startswith("litestar.") or module.startswith("litestar.types."), (
                f"{file.relative_to(ROOT)} uses {module}"
            )
