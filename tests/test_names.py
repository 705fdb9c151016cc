"""Old names that nothing goes by any more: who greps for the new one finds all of it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("service", "sql/repeatable", "tests", "benchmarks", "docs", "deploy")
# What services of the release before call, and this file.
APART = (ROOT / "sql/repeatable/20_api/deprecated", ROOT / "docs/sql-api.md", Path(__file__))
OLD = re.compile(
    r"\b(?:"
    r"list_(?:hung|turned_dpus|turned_spaces|listened|heard_ids|asked_spaces)|get_(?:microseconds|turned_parts)"
    r"|note_heard|hear_(?:late|dpus|stored)|register_heard|settle_(?:signs|stored)|cancel_untold"
    r"|rebase_(?:changed|due|first_from|live|moved|offline_after)|spoken_of|TurnedRow"
    r"|(?:writer|heartbeats)\.room|Seldom|Scout|Glance"
    r")\b"
)


def test_old_names_are_gone() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".sql", ".md", ".js"} and not any(apart in (path, *path.parents) for apart in APART)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in OLD.finditer(line)
    ]
    assert found == []
