"""What core.refuse raises: the service makes an HTTP answer of it (headcount.wire.problems)."""

import asyncpg
import pytest

from headcount.wire.problems import problem_of_sqlstate


async def refuse(connection: asyncpg.Connection, *arguments: object) -> asyncpg.PostgresError:
    with pytest.raises(asyncpg.PostgresError) as caught:
        await connection.execute("select core.refuse($1, $2, $3, $4, $5)", *arguments)
    return caught.value


async def test_it_raises_status_message_place_and_hint(connection: asyncpg.Connection) -> None:
    error = await refuse(connection, 404, "There is 100 % nothing.", "space", "Look elsewhere.", None)
    words = error.as_dict()
    assert (error.sqlstate, words["message"], words["detail"], words["hint"]) == (
        "PT404",
        "There is 100 % nothing.",
        "space",
        "Look elsewhere.",
    )
    problem = problem_of_sqlstate(error)
    assert (problem.kind.code, problem.detail) == ("not_found", "There is 100 % nothing. Look elsewhere.")
    assert [(item.where, item.code) for item in problem.errors] == [("space", "not_found")]


async def test_it_can_do_without_place_and_hint(connection: asyncpg.Connection) -> None:
    problem = problem_of_sqlstate(await refuse(connection, 409, "No.", None, None, None))
    assert (problem.kind.code, problem.detail, list(problem.errors)) == ("conflict", "No.", [])


async def test_it_can_say_more_than_the_status(connection: asyncpg.Connection) -> None:
    problem = problem_of_sqlstate(await refuse(connection, 503, "No.", None, None, "clock_suspect"))
    assert problem.kind.code == "clock_suspect"
