"""What the numbers were measured on."""

import os
import platform
from importlib.metadata import version

import psycopg

SETTINGS = (
    *("fsync", "synchronous_commit", "full_page_writes", "wal_compression", "shared_buffers", "max_wal_size"),
    *("max_connections", "jit"),
)
PACKAGES = ("asyncpg", "httptools", "litestar", "msgspec", "psycopg", "uvicorn", "uvloop")


def memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def describe_machine(url: str) -> list[tuple[str, str]]:
    """Names and values."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "select current_setting('server_version'),"
            " (select extversion from pg_extension where extname = 'timescaledb'),"
            " (inet_server_addr() is null or inet_server_addr() = inet_client_addr())"
        ).fetchone()
        settings = connection.execute(
            "select name, current_setting(name) from pg_settings where name = any (%s) order by name", [list(SETTINGS)]
        ).fetchall()
    postgresql, timescaledb, same = row or ("?", "?", False)
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        (
            "machine",
            f"{os.cpu_count()} cores, {memory_bytes() / 2**30:.0f} GiB, {platform.system()} {platform.machine()}",
        ),
        ("load before (1/5/15 min)", load),
        ("PostgreSQL, TimescaleDB", f"{postgresql}, {timescaledb}, {'same' if same else 'another'} machine"),
        ("settings", ", ".join(f"{name} {value}" for name, value in settings)),
        ("Python", f"{platform.python_version()}; " + ", ".join(f"{name} {version(name)}" for name in PACKAGES)),
    ]
