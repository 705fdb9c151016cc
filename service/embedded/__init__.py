"""A TimescaleDB that needs no server, for trying out, demos and tests (docs/embedded.md)."""

from service.embedded.database import EmbeddedDatabase
from service.embedded.errors import EmbeddedUnavailable
from service.embedded.jobs import run_jobs
from service.embedded.template import copy_template, make_template

__all__ = ["EmbeddedDatabase", "EmbeddedUnavailable", "copy_template", "make_template", "run_jobs"]
