"""Data directories made once and copied."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import psycopg
import pytest

from headcount.embedded import EmbeddedDatabase, copy_template, make_template, template
from headcount.embedded.package import cache_folder


class InstantDatabase:
    """In place of the real one, which takes its time."""

    def __init__(self, directory: Path) -> None:
        self.url = str(directory)
        (directory / "data").mkdir()

    def __enter__(self) -> InstantDatabase:
        return self

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture
def instant_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "EmbeddedDatabase", InstantDatabase)


def fill_slowly(url: str) -> None:
    time.sleep(1)
    with (Path(url).parent / "fills").open("a") as file:
        file.write("filled\n")


def make_slowly(cache: str) -> str:
    vars(template)["EmbeddedDatabase"] = InstantDatabase  # this process is a new one
    return str(make_template(Path(cache), [b"a", b"b"], fill_slowly))


def test_processes_that_want_a_template_at_once_get_one(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        (path,) = set(pool.map(make_slowly, [str(tmp_path)] * 3))
    assert (tmp_path / "fills").read_text() == "filled\n"
    assert {entry.name for entry in tmp_path.iterdir()} == {Path(path).name, "fills", "templates.lock"}


def fill(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table filled as select 42 as x")


def test_a_copy_holds_what_filled_the_template(tmp_path: Path) -> None:
    copy_template(make_template(cache_folder(), [b"filled"], fill), tmp_path)
    with EmbeddedDatabase(tmp_path, optimized=False) as database, psycopg.connect(database.url) as connection:
        assert connection.execute("select x from filled").fetchall() == [(42,)]


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
