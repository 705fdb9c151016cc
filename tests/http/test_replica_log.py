"""HEADCOUNT_READ_URL has a password: what the log says of it."""

import logging

import asyncpg
import pytest

from headcount.database.replica import what_kind
from headcount.settings import Settings
from tests.http.streams import served


async def test_a_password_that_breaks_the_address_is_not_in_the_log(
    connection: asyncpg.Connection, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        read_url = "postgresql://reader:hunter2secret#more@127.0.0.1:1/x"
        async with served(Settings(database_url=database_url, read_url=read_url, auth="off", jobs=False)) as client:
            for _ in range(100):
                await client.get("/v1/counts")
                if "The replica is not read" in caplog.text:
                    break
    assert "The replica is not read" in caplog.text
    assert "percent-encode" in caplog.text
    assert "hunter2" not in caplog.text


def test_it_says_what_kind_of_error_it_is() -> None:
    assert what_kind(ConnectionRefusedError(111, "secret")) == "ConnectionRefusedError, Connection refused"
    assert what_kind(asyncpg.InvalidPasswordError("secret")) == "InvalidPasswordError, SQLSTATE 28P01"
    assert "secret" not in what_kind(RuntimeError("secret"))
