"""Whom a request acts for, and what it may do."""

from datetime import datetime

import msgspec


class Share(msgspec.Struct, frozen=True):
    """A token whose limits a request counts against. Rates: its own, None for none."""

    token: str | None
    events_per_second: int | None = None
    requests_per_second: int | None = None


# `admin` includes `read`: core.include_scopes says so for every token.
SCOPES = ("ingest", "read", "admin")


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What a request may do. `token`: the id of its token, None where nobody asks for one."""

    token: str | None = None
    digest: bytes = b""
    scopes: frozenset[str] = frozenset(SCOPES)
    # To a space: its statements have to say on whose behalf they are.
    is_limited: bool = False
    expires_at: datetime | None = None
    # Whose limits it shares: its own, and those of the tokens that made it.
    shares: tuple[Share, ...] = (Share(None),)

    @property
    def client(self) -> str | None:
        """Whose part of what all share its requests have (database.shares): that of the first of its family."""
        return self.shares[-1].token


EVERYTHING = Access()
