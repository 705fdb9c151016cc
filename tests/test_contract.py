"""One name, one path: every function of schema api has one call of the same name, and all that belongs to it."""

import inspect
import re
from pathlib import Path

import asyncpg

from headcount.database import calls
from headcount.database.declaring import statement

TESTS = Path(__file__).parent
# What services of the release before call, and this one does not.
DEPRECATED = {path.stem for path in (TESTS.parent / "sql/repeatable/20_api/deprecated").glob("*.sql")}

FUNCTIONS = """
select p.proname as name,
       coalesce((select array_agg(a.name order by a.place)
                 from unnest(p.proargnames, p.proargmodes) with ordinality as a (name, mode, place)
                 where coalesce(a.mode, 'i') in ('i', 'b')), '{}') as arguments,
       coalesce((select array_agg(t.type::regtype::text order by t.place)
                 from unnest(p.proargtypes::oid[]) with ordinality as t (type, place)), '{}') as types,
       p.pronargdefaults as defaults,
       coalesce(obj_description(p.oid, 'pg_proc'), '') as comment,
       has_function_privilege('headcount_service', p.oid, 'execute') as service_may,
       exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
               where g.grantee = 0 and g.privilege_type = 'EXECUTE') as public_may
from pg_proc p
where p.pronamespace = 'api'::regnamespace
order by 1
"""
PYTHON_TYPES = {
    "text": {"str", "str | None"},
    "text[]": {"Sequence[str]", "Sequence[str] | None", "Sequence[str | None]"},
    "timestamp with time zone": {"datetime", "datetime | None"},
    "timestamp with time zone[]": {"Sequence[datetime]", "Sequence[datetime | None]"},
    "integer": {"int", "int | None"},
    "bigint": {"int", "int | None"},
    "double precision": {"float"},
    "smallint": {"int", "int | None"},
    "integer[]": {"Sequence[int]", "Sequence[int] | None"},
    "smallint[]": {"Sequence[int]"},
    "bigint[]": {"Sequence[int] | None"},
    "bytea": {"bytes"},
    "bytea[]": {"Sequence[bytes]", "Sequence[bytes | None]"},
    "boolean": {"bool", "bool | None"},
    # str: JSON that the service has made or been given
    "jsonb": {
        "str",
        "plan.SpaceIn",
        "plan.DoorwayIn",
        "plan.DpuIn",
        "plan.SiteIn",
        "notices.ChannelIn",
    },
    "boolean[]": {"Sequence[bool]"},
}


def declared() -> dict[str, str]:
    """By name of the Python function: the statement that it runs."""
    found = inspect.getmembers(calls, inspect.iscoroutinefunction)
    return {name: function.statement for name, function in found if hasattr(function, "statement")}


async def functions(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    found = await connection.fetch(FUNCTIONS)
    assert len(found) > 20
    assert {row["name"] for row in found} >= DEPRECATED
    return [row for row in found if row["name"] not in DEPRECATED]


async def test_it_calls_every_function_by_its_name_and_with_all_its_arguments(connection: asyncpg.Connection) -> None:
    found = await functions(connection)
    assert len({row["name"] for row in found}) == len(found), "no overloads"
    assert declared() == {row["name"]: statement(row["name"], row["arguments"]) for row in found}


async def test_its_arguments_in_python_are_those_of_the_function_and_of_its_types(
    connection: asyncpg.Connection,
) -> None:
    for row in await functions(connection):
        signature = inspect.signature(getattr(calls, row["name"]))
        parameters = list(signature.parameters.values())[1:]
        assert [parameter.name for parameter in parameters] == list(row["arguments"])
        for parameter, kind in zip(parameters, row["types"], strict=True):
            annotation = inspect.formatannotation(parameter.annotation)
            spelled = re.sub(r"\b(?:collections\.abc|datetime|headcount\.wire\.messages)\.(?=\w)", "", annotation)
            assert spelled in PYTHON_TYPES[kind], f"{row['name']}: {parameter.name} is {kind}, not {spelled}"
            optional = parameter.default is not inspect.Parameter.empty
            if not optional:
                continue
            assert parameters.index(parameter) >= len(parameters) - row["defaults"], f"{row['name']}: {parameter.name}"


async def test_every_function_is_explained_granted_and_tested(connection: asyncpg.Connection) -> None:
    for row in await functions(connection):
        name = row["name"]
        summary = row["comment"].split("\n\n")[0]
        assert re.match(r"[A-Z].*[.:]", summary, re.DOTALL), f"{name} has no comment"
        assert row["service_may"], f"headcount_service may not execute {name}"
        assert not row["public_may"], f"everybody may execute {name}"
        files = [TESTS / folder / f"test_{name}.py" for folder in ("sql", "http")]
        assert any(path.is_file() for path in files), f"there is no test_{name}.py"
