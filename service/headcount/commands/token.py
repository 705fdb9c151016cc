"""`headcount token`."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from headcount.commands.session import connected, offline_settings, run_async
from headcount.commands.verify import print_table
from headcount.database import calls
from headcount.http.auth import digest_of, make_token, scopes_of
from headcount.http.requests import ID
from headcount.wire import instants
from headcount.wire.messages.tokens import TokenOut

PAGE_ROWS = 1000
DAYS = 36_500


class Scopes(click.ParamType[Sequence[str]]):
    """`ingest,read,admin`, or some of them."""

    name = "scopes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Sequence[str]:
        try:
            return value if isinstance(value, list) else scopes_of(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class Expiry(click.ParamType[datetime]):
    """An instant, or how many days from now."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        days = value.removesuffix("d")
        if days != value and days.isdecimal() and 1 <= len(days) <= 5 and int(days) <= DAYS:
            return datetime.now(UTC) + timedelta(days=int(days))
        try:
            return instants.parse(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number of days such as 90d nor an instant such as 2027-01-31T00:00:00Z.")


@click.group
def token() -> None:
    """Who may speak to the service: make, list and revoke tokens.

    They are sent as `Authorization: Bearer hc_...`.
    """


@token.command
@click.option(
    "--scope", "scopes", type=Scopes(), required=True, help="ingest, read, admin (includes read); several with commas."
)
@click.option("--space", help="Only this space and all below it.  [default: everything]")
@click.option("--name", help="What it is for, to tell it from others.")
@click.option("--expires", "expires_at", type=Expiry(), help="90d, or an RFC 3339 instant.  [default: never]")
@click.option("--events-per-second", type=click.IntRange(1, 2**31 - 1), help="Its own limit for events.")
@click.option("--requests-per-second", type=click.IntRange(1, 2**31 - 1), help="Its own limit for the rest.")
def create(
    scopes: Sequence[str],
    space: str | None,
    name: str | None,
    expires_at: datetime | None,
    events_per_second: int | None,
    requests_per_second: int | None,
) -> None:
    """Make a token and print it: this once, since only its hash is stored.

    The token alone goes to standard output, what is known of it to standard error.
    """
    if space is not None and ID.match(space) is None:
        raise click.UsageError(f"--space is {space!r}; it must be the id of a space.")
    if name is not None and (len(name) > 200 or "\0" in name):
        raise click.UsageError("--name can have 200 characters.")
    url = offline_settings().database_url
    made = make_token()

    async def main() -> TokenOut:
        async with connected(url) as connection:
            return await calls.create_token(
                connection, digest_of(made), scopes, name, space, expires_at, events_per_second, requests_per_second
            )

    stored = run_async(main(), url)
    until = f"until {instants.shortest(stored.expires_at)}" if stored.expires_at else "until it is revoked"
    reach = f"the space {stored.space} and all below it" if stored.space else "everything"
    click.echo(f"{stored.id}: {', '.join(stored.scopes)} on {reach}, {until}. It is not shown again:", err=True)
    click.echo(made)


@token.command(name="list")
def list_tokens() -> None:
    """Show all tokens, without what is secret of them."""
    url = offline_settings().database_url

    async def main() -> list[TokenOut]:
        async with connected(url) as connection:
            found: list[TokenOut] = []
            while rows := await calls.list_tokens(connection, found[-1].id if found else None, PAGE_ROWS):
                found += rows
            return found

    found = run_async(main(), url)
    print_table(
        ("id", "name", "scopes", "space", "created", "made by", "last used", "state"),
        (
            (
                row.id,
                row.name,
                ",".join(row.scopes),
                row.space,
                _day(row.created_at),
                row.created_by,
                _day(row.last_used_at),
                _state(row),
            )
            for row in found
        ),
    )


@token.command
@click.argument("token_id", metavar="ID")
@click.option("--only", is_flag=True, help="This token alone, and not those that were made with it.")
def revoke(token_id: str, only: bool) -> None:
    """End a token for good, and all that were made with it. Takes its id (tok_...), not the token itself."""
    url = offline_settings().database_url

    async def main() -> None:
        async with connected(url) as connection:
            await calls.revoke_token(connection, token_id, descendants=not only)

    if token_id.startswith("hc_"):
        raise click.UsageError("That is a token; give its id (tok_...), which `headcount token list` shows.")
    run_async(main(), url)
    revoked = f"{token_id} is" if only else f"{token_id} and all that were made with it are"
    click.echo(f"{revoked} revoked; services that are running refuse it within 5 seconds.")


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "never"


def _state(row: TokenOut) -> str:
    if row.revoked_at:
        return f"revoked {_day(row.revoked_at)}"
    if row.expires_at and row.expires_at <= datetime.now(UTC):
        return f"expired {_day(row.expires_at)}"
    return f"good until {_day(row.expires_at)}" if row.expires_at else "good"
