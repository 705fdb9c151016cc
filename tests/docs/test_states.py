"""The words and columns of docs/reference/states.md are those of the code and of the tables."""

import re
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from headcount.database.schema import SQL_DIR
from headcount.wire.messages.base import REFUSALS, STATES
from headcount.wire.messages.notices import DeliveryOut

PAGE = (Path(__file__).parents[2] / "docs/reference/states.md").read_text()
SCHEMA = (SQL_DIR / "schema.sql").read_text()
TABLES = {
    "Outage": "outage",
    "Incident": "incident",
    "Token": "token",
    "Placement": "placement",
    "Refused event": "rejected_event",
}


class Table(NamedTuple):
    header: list[str]
    rows: list[list[str]]

    def column(self, name: str) -> list[str]:
        place = self.header.index(name)
        return [row[place] for row in self.rows]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables(section: str) -> list[Table]:
    found = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [Table(cells(lines[0]), [cells(line) for line in lines[2:]]) for lines in map(str.splitlines, found)]


SECTIONS = {
    part.split("\n", 1)[0]: {table.header[0]: table for table in tables(part)} for part in PAGE.split("\n## ")[1:]
}


def words(cells: list[str]) -> list[str]:
    return [word for cell in cells for word in re.findall(r"`(\w+)`", cell)]


def allowed(constraint: str) -> set[str]:
    """The words that a check of sql/schema.sql allows."""
    (line,) = re.findall(rf"constraint +{constraint} (.*)", SCHEMA)
    return set(re.findall(r"'(\w+)'::text", line))


def columns_of(table: str) -> set[str]:
    (body,) = re.findall(rf"^table core\.{table}\n((?: .*\n)+)", SCHEMA, re.MULTILINE)
    return set(re.findall(r'^ +column +"?(\w+)"?', body, re.MULTILINE))


def test_it_tells_of_each_thing_that_has_states() -> None:
    assert list(SECTIONS) == [
        "Sensor (DPU)",
        "Outage",
        "Incident",
        "Delivery",
        "Report",
        "Token",
        "Placement",
        "Refused event",
    ]


@pytest.mark.parametrize(
    ("section", "code"),
    [
        ("Sensor (DPU)", set(STATES)),
        ("Delivery", allowed("delivery_state_check")),
        ("Report", allowed("report_state_check")),
    ],
)
def test_its_words_are_those_of_the_code(section: str, code: set[str]) -> None:
    told = words(SECTIONS[section]["State"].column("State"))
    assert len(told) == len(set(told))
    assert set(told) == code


def test_it_tells_of_every_reason_to_refuse_an_event() -> None:
    assert tuple(words(SECTIONS["Refused event"]["Code"].column("Code"))) == REFUSALS


def test_its_kinds_of_incidents_are_those_of_the_table() -> None:
    section = PAGE.split("\n## Incident\n")[1].split("\n## ")[0]
    assert allowed("incident_kind_check") == set(re.findall(r"`(\w+_offline)`", section))


def test_its_reasons_for_not_sending_are_those_of_the_api() -> None:
    meanings = SECTIONS["Delivery"]["State"].column("Meaning")
    told = {word for meaning in meanings if "reason" in meaning for word in words([meaning.split("`reason`")[1]])}
    description = msgspec.json.schema(DeliveryOut)["$defs"]["DeliveryOut"]["properties"]["reason"]["description"]
    assert told == set(re.findall(r"\w+", description.split(":")[1].split(";")[0])) - {"or"}
    code = "".join(path.read_text() for path in (SQL_DIR / "repeatable").rglob("*.sql"))
    assert all(f"'{reason}'" in code for reason in told)


@pytest.mark.parametrize(("section", "table"), TABLES.items())
def test_the_columns_that_tell_a_state_are_those_of_its_table(section: str, table: str) -> None:
    for cell in SECTIONS[section]["State"].column("Columns"):
        assert words([cell]), "a state of no word is told by columns"
        assert set(words([cell])) <= columns_of(table)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_state_is_come_to_or_gone_from_and_there_are_no_others(section: str) -> None:
    states = set(SECTIONS[section]["State"].column("State"))
    moves = SECTIONS[section]["From"]
    assert {*moves.column("From"), *moves.column("To")} - {""} == states
