"""What a `sql` folder asks for, and whether a database answers to it (sql/README.md).

`migrate` (headcount.database.migrate) makes it so; with `check_schema` the service refuses to start where it is not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from headcount.wire.problems import SchemaMismatch

# In an installed package beside the modules, in a checkout at the top.
PACKAGED = Path(__file__).parents[1] / "sql"
SQL_DIR = PACKAGED if PACKAGED.is_dir() else Path(__file__).parents[3] / "sql"
POLICIES = "80_policies.sql"
TOKEN = re.compile(
    r"--[^\n]*|/\*.*?\*/|\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"[^\"]*\"|\$(\w*)\$.*?\$\1\$|;", re.DOTALL
)


class MigrationRefused(RuntimeError):
    """The database was left as it was; `message` says why and `remedy` what to do about it."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n{self.remedy}"


@dataclass(frozen=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    text: str
    sha256: str
    breaking: bool
    transaction: bool


@dataclass(frozen=True)
class SchemaVersion:
    """What a `sql` folder asks for: the hash of each numbered file and of all repeatable ones."""

    migrations: dict[int, Migration]
    repeatable_sha256: str
    policies_sha256: str
    repeatable: tuple[tuple[str, str], ...] = field(repr=False)  # (path below repeatable/, text) in run order

    @property
    def newest(self) -> int:
        return max(self.migrations, default=0)


def _text(path: Path) -> str:
    return path.read_bytes().decode().replace("\r\n", "\n")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def statements(sql: str) -> list[str]:
    """The statements of an SQL text without comments and literals: to look at, not to run."""
    bare = TOKEN.sub(lambda m: ";" if m[0] == ";" else " " if m[0][:2] in ("--", "/*") else "''", sql)
    return [statement.strip() for statement in bare.split(";") if statement.strip()]


def _read_migration(path: Path) -> Migration:
    named = re.fullmatch(r"(\d{4})_[a-z0-9_]+\.sql", path.name)
    if not named:
        raise MigrationRefused(
            f"{path.name} is not named like a migration.",
            "Name it NNNN_name.sql: four digits, then lower-case letters, digits and underscores.",
        )
    text = _text(path)
    header = re.match(r"(?:[ \t]*(?:--[^\n]*)?\n)*", text)
    words = set(re.findall(r"^-- headcount: (.*?)\s*$", header[0] if header else "", re.MULTILINE))
    if unknown := words - {"breaking", "no-transaction"}:
        raise MigrationRefused(
            f"{path.name} has the unknown header word {', '.join(sorted(unknown))!r}.",
            "Use `-- headcount: breaking` or `-- headcount: no-transaction`, one a line.",
        )
    found = statements(text)
    if "no-transaction" in words and len(found) != 1:
        raise MigrationRefused(
            f"{path.name} is marked no-transaction but holds {len(found)} statements.",
            "Give each statement that cannot run in a transaction a file of its own.",
        )
    if any(re.match(r"(?i)(begin|commit|rollback|start)\b", statement) for statement in found):
        raise MigrationRefused(
            f"{path.name} begins or ends a transaction.",
            "Leave that out: every file runs in one transaction together with its ledger row.",
        )
    breaking, transaction = "breaking" in words, "no-transaction" not in words
    return Migration(int(named[1]), path.name, text, _sha256(text), breaking, transaction)


def expected_schema(sql_dir: Path = SQL_DIR) -> SchemaVersion:
    """Reads a `sql` folder.

    Raises MigrationRefused for a badly named file, a gap or a duplicate in the numbers, an unknown header
    word, a no-transaction file that does not hold exactly one statement, or transaction control in a file.
    """
    migrations: dict[int, Migration] = {}
    for path in sorted((sql_dir / "migrations").glob("*.sql")):
        migration = _read_migration(path)
        if (twin := migrations.get(migration.number)) is not None:
            raise MigrationRefused(
                f"{twin.name} and {migration.name} have the same number.",
                f"Give the one that is not merged yet the number {max(migrations) + 1:04}.",
            )
        if migration.number != len(migrations) + 1:
            raise MigrationRefused(
                f"{migration.name} leaves a gap: there is no {len(migrations) + 1:04}.",
                "Number the files 0001, 0002, ... without gaps, or restore the missing file.",
            )
        migrations[migration.number] = migration
    root = sql_dir / "repeatable"
    files = tuple(sorted((path.relative_to(root).as_posix(), _text(path)) for path in root.rglob("*.sql")))
    whole = "".join(f"{name}\n{_sha256(text)}\n" for name, text in files if name != POLICIES)
    policies = "".join(text for name, text in files if name == POLICIES)
    return SchemaVersion(migrations, _sha256(whole), _sha256(policies), files)


@cache
def shipped_schema() -> SchemaVersion:
    """What this package comes with: read once."""
    return expected_schema()


def compare_schema(
    found: Iterable[tuple[int, str, bool]], repeatable_sha256: str | None, expected: SchemaVersion
) -> None:
    """Compares the ledger, as rows (number, sha256, breaking), with the files this release carries.

    Ahead by files that are not breaking is fine, and then the repeatable files are the newer release's.
    Raises SchemaMismatch when the database is behind, ahead by a breaking file, or was made from other files.
    """
    ledger = {number: (sha256, breaking) for number, sha256, breaking in found}
    if behind := [m.name for number, m in expected.migrations.items() if number not in ledger]:
        raise SchemaMismatch(f"The database lacks {', '.join(behind)}: run headcount migrate.")
    for number, (sha256, breaking) in sorted(ledger.items()):
        if number > expected.newest and breaking:
            raise SchemaMismatch(
                f"The database is ahead by migration {number:04}, which this release cannot speak to: "
                "deploy the newer release (running headcount migrate again with this one cannot help)."
            )
        if number <= expected.newest and sha256 != expected.migrations[number].sha256:
            name = expected.migrations[number].name
            raise SchemaMismatch(f"{name} is not the file that ran on this database: run headcount migrate to see.")
    if max(ledger, default=0) == expected.newest and repeatable_sha256 != expected.repeatable_sha256:
        raise SchemaMismatch("The functions in the database are of another release: run headcount migrate.")


class Fetching(Protocol):
    """The one method of an asyncpg connection or pool that is needed here."""

    async def fetch(self, query: str, /) -> list[Any]: ...


async def check_schema(connection: Fetching, sql_dir: Path = SQL_DIR) -> None:
    """Compares the database of an asyncpg connection (or pool) with the files of this release.

    Needs only the right to execute `api.get_schema`. Raises SchemaMismatch, also for an empty database.
    """
    try:
        rows = await connection.fetch("select number, sha256, breaking from api.get_schema()")
    except (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedFunctionError):
        raise SchemaMismatch("The database holds no headcount schema: run headcount migrate.") from None
    repeatable = next((row["sha256"] for row in rows if row["number"] == 0), None)
    found = [(row["number"], row["sha256"], row["breaking"]) for row in rows if row["number"] != 0]
    compare_schema(found, repeatable, expected_schema(sql_dir))
