"""Fixtures of the tests of notices."""

import pytest

from headcount.notices import channels
from headcount.notices.messengers import messenger
from headcount.settings import APPRISE_SCHEMES


@pytest.fixture(autouse=True)
def _no_try_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is; yet less than a claim lasts."""
    monkeypatch.setattr(channels, "TRY_SECONDS", 25.0)


@pytest.fixture(scope="session")
def apprise() -> None:
    """It is loaded by the first who needs it: seconds of work, which are not those of a try."""
    messenger("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/%23alerts", APPRISE_SCHEMES)
