"""How the repeatable files are laid out and written (sql/README.md)."""

import re

from headcount.database.schema import SQL_DIR

CORE = SQL_DIR / "repeatable" / "10_core"


def test_every_helper_is_in_the_folder_of_its_topic() -> None:
    files = [path.relative_to(CORE) for path in CORE.rglob("*.sql")]
    assert files
    wrong = [path for path in files if not re.fullmatch(r"\d\d_[a-z_]+/[a-z_]+\.sql", path.as_posix())]
    assert wrong == [], "name it 10_core/NN_topic/name.sql: the folders say in which order files run"


def test_every_folder_of_helpers_has_a_number_of_its_own() -> None:
    numbers = [folder.name[:2] for folder in CORE.iterdir()]
    assert len(set(numbers)) == len(numbers)
