"""Calls of stored functions as declarations: the statement follows from the signature."""

import asyncio
import inspect
import types
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar, get_args, get_origin, get_type_hints

import asyncpg
import msgspec

from headcount.database import rows
from headcount.wire.instants import encoded
from headcount.wire.threads import breathe, breathing

Given = ParamSpec("Given")
Found = TypeVar("Found")
Made = TypeVar("Made")
Call = Callable[Given, Coroutine[Any, Any, Found]]
# What becomes of the rows of a call, which also gets its arguments.
Shape = Callable[[Sequence[asyncpg.Record], Sequence[Any]], Found]


# Rows that are converted at once, in some milliseconds.
MANY_ROWS = 1_000


class Session(Protocol):
    """Where a call runs: the Database of pool.py, or a connection whose transaction is to hold several calls."""

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]: ...

    async def fetchrow(self, query: str, *args: object) -> asyncpg.Record | None: ...


class Declared(NotImplementedError):
    """The body of a declaration. Nobody gets there: `call` runs the statement instead."""


def call(declaration: Call[Given, Found]) -> Call[Given, Found]:
    """Makes a declaration call the function of schema `api` that has its name.

    Each parameter after the session is an argument of the same name; a Struct goes as JSON, with the fields that it
    has. The annotation says what is returned: `list[X]`, every row; `X`, the only row; `X | None`, the row if there is
    one; `tuple[bool, X]`, its column `created` and the row; any other type, the first column. A row becomes a Struct
    as rows.py says.
    """
    return _implement(declaration)


def call_in_thread(declaration: Call[Given, Found]) -> Call[Given, Found]:
    """As `call`, where there may be so many rows that others would wait while they are converted: a thread does it."""
    return _implement(declaration, in_thread=True)


def shaped(shape: Shape[Found]) -> Callable[[Call[Given, Found]], Call[Given, Found]]:
    """As `call`, with what `shape` makes of the rows."""
    return lambda declaration: _implement(declaration, shape)


def statement(name: str, parameters: Sequence[str]) -> str:
    """The SQL of a call."""
    arguments = ", ".join(f"{parameter} => ${place}" for place, parameter in enumerate(parameters, 1))
    return f"select * from api.{name}({arguments})"


def _implement(
    declaration: Call[Given, Found], shape: Shape[Found] | None = None, *, in_thread: bool = False
) -> Call[Given, Found]:
    hints = get_type_hints(declaration)
    parameters = list(inspect.signature(declaration).parameters.values())[1:]
    names = [parameter.name for parameter in parameters]
    defaults = {
        parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty
    }
    sent_as_json = [place for place, name in enumerate(names) if _is_struct(hints[name])]
    query = statement(declaration.__name__, names)
    many, make = _rows_of(hints["return"], shape)

    def arrange(given: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
        rest = names[len(given) :]
        arguments = [*given, *(named.pop(name) if name in named else defaults[name] for name in rest)]
        for place in sent_as_json:
            arguments[place] = _as_json(arguments[place])
        return arguments

    @wraps(declaration)
    async def run(session: Session, *given: Any, **named: Any) -> Any:
        arguments = arrange(given, named) if named or sent_as_json or len(given) < len(names) else given
        if named:
            raise TypeError(f"{declaration.__name__}() has no parameter {', '.join(named)}")
        if not many:
            return make(await session.fetchrow(query, *arguments))
        found = await session.fetch(query, *arguments)
        if shape:
            return shape(found, arguments)
        if in_thread and len(found) > MANY_ROWS:
            return await asyncio.to_thread(breathing, _breathing_each, make, found)
        return _each(make, found)

    run.statement = query  # type: ignore[attr-defined]
    return run  # type: ignore[return-value]


def _each(make: Callable[[asyncpg.Record], Made], found: Sequence[asyncpg.Record]) -> list[Made]:
    return [make(row) for row in found]


def _breathing_each(make: Callable[[asyncpg.Record], Made], found: Sequence[asyncpg.Record]) -> list[Made]:
    """Lets the event loop have its turn meanwhile: it may have to wait for several threads that convert rows."""
    made = []
    for number, row in enumerate(found):
        breathe(number)
        made.append(make(row))
    return made


def _rows_of(hint: Any, shape: object) -> tuple[bool, Callable[[Any], Any]]:
    """Whether all rows are wanted, and what is made of one."""
    if shape:
        return True, _nothing
    if hint is types.NoneType:
        return False, _nothing
    kinds = get_args(hint)
    if get_origin(hint) is list:
        return True, rows.maker(kinds[0])
    if get_origin(hint) is tuple:
        make = rows.maker(kinds[1])
        return False, lambda row: (row["created"], make(_there(row)))
    if isinstance(hint, types.UnionType):
        kind = kinds[0]
        make = rows.maker(kind) if _is_struct(kind) else _first
        return False, lambda row: None if row is None else make(row)
    if _is_struct(hint):
        make = rows.maker(hint)
        return False, lambda row: make(_there(row))
    return False, lambda row: msgspec.convert(_first(_there(row)), hint, strict=False)


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _nothing(_row: object) -> None:
    return None


def _first(row: asyncpg.Record) -> Any:
    return row[0]


def _there(row: asyncpg.Record | None) -> asyncpg.Record:
    if row is None:
        raise LookupError("the function returned no row")
    return row


def _as_json(body: msgspec.Struct | str) -> str:
    """The fields that the body has: absent ones are left out, null stays null."""
    return body if isinstance(body, str) else msgspec.json.encode(body, enc_hook=encoded).decode()
