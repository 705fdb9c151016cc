"""A TimescaleDB that needs no server, for trying out, demos and tests (docs/explanation/embedded-database.md)."""

from headcount.embedded.database import EmbeddedDatabase
from headcount.embedded.errors import EmbeddedUnavailable
from headcount.embedded.jobs import run_jobs
from headcount.embedded.template import copy_template, make_template

__all__ = ["EmbeddedDatabase", "EmbeddedUnavailable", "copy_template", "make_template", "run_jobs"]
