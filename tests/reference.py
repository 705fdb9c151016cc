"""Pages of docs/reference that are made from the code: `make generate` writes them, a test holds them."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import msgspec

from headcount.settings import MEANINGS, OTHERS, SECRETS, VARIABLES, Settings

SETTINGS = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"

INTRODUCTION = """\
# Settings

The environment sets everything: one variable for each setting. An empty variable counts as not set.
A wrong value stops the command before it does anything, and so does a variable with a misspelt name.

Variables marked *secret* can come from a file: set the variable with `_FILE` at its end to the path,
for example `DATABASE_URL_FILE=/run/secrets/database_url`. Set one of the two, not both.

`headcount run` (`make run`) also reads `PORT` for `HEADCOUNT_PORT`, and `DEMO=0` leaves the demo
out. It is the only command that starts without `DATABASE_URL`.

<!-- Made from service/headcount/settings.py by `make generate`. Do not edit the tables. -->
"""

WORDS = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`", datetime: "date or instant"}


def settings_page() -> str:
    """All settings in one table, and after it the variables with the same beginning that are for others."""
    rows = []
    for field in msgspec.structs.fields(Settings):
        variable, meaning = VARIABLES[field.name], MEANINGS[field.name]
        secret = " *Secret.*" if variable in SECRETS else ""
        unit = (meaning.extra or {})["unit"]
        cells = (f"`{variable}`", _word_of(field.type), _written(field.default), unit, f"{meaning.description}{secret}")
        rows.append(f"| {' | '.join(cells)} |")
    others = [f"| `{variable}` | {meaning} |" for variable, meaning in OTHERS.items()]
    return "\n".join(
        (
            INTRODUCTION,
            "| Variable | Type | Default | Unit | Meaning |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "## Variables for others",
            "",
            "The service does not read these, and does not refuse them.",
            "",
            "| Variable | Meaning |",
            "|---|---|",
            *others,
            "",
        )
    )


def _word_of(kind: Any) -> str:
    """How people call a type."""
    if get_origin(kind) is Annotated:
        return _word_of(get_args(kind)[0])
    if get_origin(kind) is tuple:
        return "list, separated by commas"
    found = [part for part in get_args(kind) if part is not type(None)]
    return _word_of(found[0]) if found else WORDS[kind]


def _written(default: Any) -> str:
    """As it would be set."""
    if default is None or default == "" or default == ():
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return f"`{','.join(default)}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
