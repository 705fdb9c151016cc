"""Addresses of servers, which may hold a password: which can be read in one way only, and what of them can be shown.

A raw `/`, `?`, `#` or `@` in a password ends it too soon. Whoever reads such an address takes the rest of the password
for a host, a port or a name, and quotes it in its errors.
"""

import re

SERVER = r"(?:[\w.%-]*|\[[\w.:%]+\])(?::[0-9]{0,5})?"
# Drivers take the first @ for the end of the password. A `#` is a part of it to one of them, and its end to the other.
DATABASE = re.compile(
    rf"postgres(?:ql)?://(?:[^@/?#]*@)?(?P<server>{SERVER}(?:,{SERVER})*)(?P<name>/[^@/?#]*)?(?:\?[^@#]*)?"
)
UNREADABLE = (
    "DATABASE_URL cannot be read. It must be postgresql://USER:PASSWORD@HOST:PORT/NAME; in USER and PASSWORD write "
    "% as %25, / as %2F, ? as %3F, # as %23, @ as %40 and a space as %20."
)


def is_database(url: str) -> bool:
    """Whether all drivers see the same password in it, if they can read it."""
    return DATABASE.fullmatch(url) is not None


def show_database(url: str) -> str:
    """Host, port and name of a database, if they can be told; else the name of the setting."""
    found = DATABASE.fullmatch(url)
    return f"postgresql://{found['server']}{found['name'] or ''}" if found and found["server"] else "DATABASE_URL"


def show_server(url: str, schemes: str) -> str | None:
    """Scheme, host and port of another server; None: they cannot be told. `schemes`: http|https."""
    found = re.fullmatch(rf"((?:{schemes})://)(?:[^/?#]*@)?({SERVER})(?:[/?#][^@]*)?", url)
    return f"{found[1]}{found[2]}" if found and found[2] else None
