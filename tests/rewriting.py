"""pytest rewrites the asserts of each module of tests, which takes 10 s of the processor for all of them. It is done
once, before the workers begin: they begin together, and each would find that nobody has done it yet."""

import importlib.util
import py_compile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

# What the hook does that pytest has for imports: it offers no way to do this without also running the modules.
from _pytest.assertion.rewrite import PYC_TAIL, _read_pyc, _rewrite_test, _write_pyc, assertstate_key, get_cache_dir


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    has_workers = config.getoption("dist", "no") != "no"
    if has_workers and not hasattr(config, "workerinput"):
        for path in modules(config.args):
            if path.name.startswith("test_"):
                rewrite(path, config)
            elif not Path(importlib.util.cache_from_source(str(path))).exists():
                py_compile.compile(str(path))


def modules(arguments: Iterable[str]) -> Iterator[Path]:
    """Those in the files and folders that pytest was given."""
    for argument in arguments:
        path = Path(argument.partition("::")[0]).resolve()
        if path.is_dir():
            yield from sorted(path.rglob("*.py"))
        elif path.suffix == ".py" and path.exists():
            yield path


def rewrite(path: Path, config: pytest.Config) -> None:
    folder = get_cache_dir(path)
    compiled = folder / (path.stem + PYC_TAIL)
    if _read_pyc(path, compiled) is None:
        folder.mkdir(parents=True, exist_ok=True)
        source_hash, code = _rewrite_test(path, config)
        _write_pyc(config.stash[assertstate_key], code, source_hash, compiled)
