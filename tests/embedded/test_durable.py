"""A commit reaches the disk before it is acknowledged, unless nobody keeps the database."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.embedded.conftest import MakeDatabase

# Preloaded into Node: notes every time that something is to reach the disk.
HOOK = """
const fs = require('node:fs')
for (const name of ['fdatasyncSync', 'fsyncSync']) {
  const real = fs[name]
  fs[name] = (...given) => { fs.appendFileSync('%s', name + '\\n'); return real(...given) }
}
"""


@pytest.mark.parametrize("durable", [True, False])
def test_a_commit_waits_for_the_disk_where_somebody_keeps_the_database(
    durable: bool, make_database: MakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook, noted = tmp_path / "hook.cjs", tmp_path / "noted"
    hook.write_text(HOOK % noted)
    noted.touch()
    monkeypatch.setenv("NODE_OPTIONS", f"--require {hook}")
    database = make_database() if durable else make_database(durable=False)
    database.start()
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("create table kept (n int)")
        noted.write_text("")
        connection.execute("insert into kept values (1)")
    assert ("fdatasyncSync" in noted.read_text()) == durable
