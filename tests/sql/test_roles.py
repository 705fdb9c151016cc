"""A migrator that is no superuser, as on a managed server."""

from urllib.parse import urlsplit

import psycopg
import pytest

from headcount.database.migrate import migrate


def test_it_lets_an_owner_who_is_no_superuser_act_as_the_service(fresh_database_url: str, is_embedded: bool) -> None:
    if not is_embedded:
        pytest.skip("the roles of a shared server belong to whoever migrated there first")
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        connection.execute("create extension if not exists timescaledb")
        connection.execute("create extension if not exists btree_gist")
        connection.execute("create role app login createrole")
        connection.execute(
            "do $$ begin execute format('grant create on database %I to app', current_database()); end $$"
        )
        connection.execute("grant all on schema public to app")
    parts = urlsplit(fresh_database_url)
    url = parts._replace(netloc="app@" + parts.netloc.rpartition("@")[2]).geturl()
    report = migrate(url)
    (bounds, *_) = [warning for warning in report.warnings if warning.startswith("headcount_bi may still")]
    assert "hold advisory locks" in bounds
    assert "Let a superuser run what docs/how-to/bi-tools.md says" in bounds
    assert "headcount_service has no log_min_messages = log: let a superuser set it." in report.warnings
    with psycopg.connect(url) as connection:
        connection.execute("set role headcount_service")
        assert connection.execute("select count(*) from api.list_spaces()").fetchone() == (0,)
