"""Data directories made once and copied."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import psycopg
import pytest

from service.embedded import EmbeddedDatabase, copy_template, make_template, template


def fill(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table filled (x int)")
        connection.execute("insert into filled values (42)")


def fill_and_count(url: str) -> None:
    fill(url)
    with (Path(os.environ["COUNT_FILLS_IN"]) / "fills").open("a") as file:
        file.write("filled\n")


def make(cache: str) -> str:
    return str(make_template(Path(cache), [b"a", b"b"], fill_and_count))


def test_processes_that_want_a_template_at_once_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNT_FILLS_IN", str(tmp_path))
    cache = tmp_path / "cache"
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        (path,) = set(pool.map(make, [str(cache)] * 3))
    assert (tmp_path / "fills").read_text() == "filled\n"
    copy_template(Path(path), tmp_path / "copy")
    with EmbeddedDatabase(tmp_path / "copy") as database, psycopg.connect(database.url) as connection:
        assert connection.execute("select x from filled").fetchall() == [(42,)]
    assert {entry.name for entry in cache.iterdir()} == {Path(path).name, "templates.lock"}


@pytest.fixture
def instant_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates without the time it takes to make a database."""

    class Instant:
        def __init__(self, directory: Path) -> None:
            self.url = str(directory)
            (directory / "data").mkdir()

        def __enter__(self) -> Instant:
            return self

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setattr(template, "EmbeddedDatabase", Instant)


def test_other_key_parts_make_another_template(tmp_path: Path, instant_database: None) -> None:
    def fill(url: str) -> None:
        pass

    paths = [make_template(tmp_path, parts, fill) for parts in ([b"ab"], [b"a", b"b"], [b"ab", b""], [b"ab"])]
    assert len(set(paths)) == 3
    assert paths[0] == paths[3]


def test_a_fill_that_fails_leaves_no_template(tmp_path: Path, instant_database: None) -> None:
    def fail(url: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make_template(tmp_path, [], fail)
    assert [entry.name for entry in tmp_path.iterdir()] == ["templates.lock"]


def test_templates_unused_for_a_week_are_removed(tmp_path: Path, instant_database: None) -> None:
    old, used = (make_template(tmp_path, [key], lambda url: None) for key in (b"old", b"used"))
    for path in (old, used):
        os.utime(path, (time.time() - 8 * 24 * 3600,) * 2)
    assert make_template(tmp_path, [b"used"], lambda url: None) == used
    assert used.exists()
    assert not old.exists()


def test_a_copy_never_replaces_a_database(tmp_path: Path, instant_database: None) -> None:
    made = make_template(tmp_path / "cache", [], lambda url: None)
    (tmp_path / "database" / "data").mkdir(parents=True)
    (tmp_path / "database" / "data" / "kept").write_text("kept")
    (made / "data" / "new").write_text("new")
    with pytest.raises(OSError, match="not empty"):
        copy_template(made, tmp_path / "database")
    assert (tmp_path / "database" / "data" / "kept").read_text() == "kept"
