"""How the repeatable files are laid out and written (sql/README.md)."""

import re

from headcount.database.schema import SQL_DIR

REPEATABLE = SQL_DIR / "repeatable"
CORE = REPEATABLE / "10_core"
LITERAL = re.compile(r"--[^\n]*|'(?:[^']|'')*'")
KEYWORD = re.compile(r"\b(?:SELECT|FROM|WHERE|AND|OR|NOT|JOIN|INSERT|UPDATE|DELETE|CASE|WHEN|THEN|ELSE|END|IF|NULL)\b")
FUNCTION = re.compile(r"^create or replace (?:function|procedure) ([\w.]+).*?^\$\$;", re.DOTALL | re.MULTILINE)


def test_every_helper_is_in_the_folder_of_its_topic() -> None:
    files = [path.relative_to(CORE) for path in CORE.rglob("*.sql")]
    assert files
    wrong = [path for path in files if not re.fullmatch(r"\d\d_[a-z_]+/[a-z_]+\.sql", path.as_posix())]
    assert wrong == [], "name it 10_core/NN_topic/name.sql: the folders say in which order files run"


def test_every_folder_of_helpers_has_a_number_of_its_own() -> None:
    numbers = [folder.name[:2] for folder in CORE.iterdir()]
    assert len(set(numbers)) == len(numbers)


def test_one_helper_raises_all_refusals() -> None:
    raising = [
        path.relative_to(REPEATABLE).as_posix()
        for path in sorted(REPEATABLE.rglob("*.sql"))
        if re.search(r"errcode\s*=\s*'PT(?!000)", path.read_text())
    ]
    assert raising == ["10_core/10_limits/refuse.sql"], "call core.refuse"


def test_no_function_has_more_than_100_lines() -> None:
    long = {}
    for path in REPEATABLE.rglob("*.sql"):
        for match in FUNCTION.finditer(path.read_text()):
            if (lines := match[0].count("\n") + 1) > 100:
                long[match[1]] = lines
    assert long == {}, "cut it where its own comments stand"


def test_no_line_has_more_than_120_characters() -> None:
    long = [
        f"{path.relative_to(REPEATABLE)}:{number}"
        for path in REPEATABLE.rglob("*.sql")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > 120
    ]
    assert long == []


def test_keywords_are_in_lower_case_also_in_bodies() -> None:
    for path in REPEATABLE.rglob("*.sql"):
        bare = LITERAL.sub("", path.read_text())
        assert KEYWORD.findall(bare) == [], path


def test_no_function_has_the_name_of_another_one() -> None:
    names = [name for path in REPEATABLE.rglob("*.sql") for name in FUNCTION.findall(path.read_text())]
    assert len(names) > 200
    assert len(set(names)) == len(names), "no overloads"
