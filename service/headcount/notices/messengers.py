"""Messengers: the services that Apprise speaks to, what their addresses may carry, and how a notice is sent to one.

Whoever may make a channel writes the address. Apprise lets an address name files and other hosts, and its own words
quote what it was given. So an address carries only what this module lists, and none of Apprise's words are passed on.
"""

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from headcount.notices.egress import CONNECT_SECONDS

if TYPE_CHECKING:
    from apprise import Apprise, NotifyBase

TRY_SECONDS = 10.0

# Options that every service has. The last five change nothing: how long and how often to try is up to us.
COMMON = frozenset({"format", "overflow", "emojis", "cto", "rto", "redirect", "retry", "wait"})
# What else an address can say, by service: read in Apprise 2.2. None of these makes Apprise read a file or connect to
# another host (tests/notices/test_messengers.py); addresses among them are text for the receiver. Not here are
# `template` (a file or an address, which Apprise reads), `verify`, `store` and `tz`. `+` and `:` stand for any option
# that begins so.
OPTIONS = {
    "discord": {
        *("avatar", "avatar_url", "batch", "botname", "fields", "flags", "footer", "footer_logo", "href", "image"),
        *("ping", "thread", "tts", "url"),
    },
    "gchat": {"key", "thread", "threadkey", "token", "workspace"},
    "opsgenie": {"action", "alias", "apikey", "batch", "entity", "priority", "region", "tags", "to", "+", ":"},
    "pagerduty": {
        *("action", "apikey", "class", "click", "component", "dedup", "group", "image", "integrationkey", "region"),
        *("severity", "source", "+"),
    },
    "pbul": {"to"},
    "pover": {"e2ee", "expire", "interval", "key", "priority", "sound", "to", "url", "url_title"},
    "slack": {"blocks", "footer", "image", "mode", "timestamp", "to", "token"},
    "tgram": {"album", "content", "detect", "image", "mdv", "preview", "silent", "thread", "to", "topic"},
    "twilio": {"apikey", "from", "method", "sid", "source", "to", "token"},
    "webex": {"mode", "to", "token"},
    "wxteams": {"mode", "to", "token"},
}
# Of services that an administrator has added to HEADCOUNT_APPRISE_SCHEMES.
OTHERS = frozenset({"from", "name", "priority", "tags", "to"})

STATUS = re.compile(r"\berror=([1-5][0-9]{2})\b")


class AddressRefused(Exception):
    """The address is not one to send to; the text says why, and holds nothing of it."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `status`: of HTTP, where Apprise tells it."""

    is_delivered: bool
    status: int | None = None
    error: str | None = None


def scheme_of(url: str) -> str:
    return url.partition("://")[0].lower()


def options_of(scheme: str) -> frozenset[str]:
    """What an address of a service can say after `?`."""
    return COMMON | OPTIONS.get(scheme, OTHERS)


def messenger(url: str, schemes: Sequence[str]) -> "NotifyBase":
    """What Apprise makes of an address, with its time limits and redirects as we want them.

    Raises AddressRefused unless it is one of a service among `schemes` that carries nothing but what it may.
    """
    scheme = scheme_of(url)
    if scheme not in schemes:
        raise AddressRefused("This service does not send to what the address names.")
    apprise = _apprise()
    from apprise import AppriseAsset, PersistentStoreMode
    from apprise.plugins import url_to_dict

    # What is checked is what Apprise has read, and what it goes by: no other way to write an option passes.
    try:
        parts = url_to_dict(url)  # type: ignore[no-untyped-call]
    except Exception:
        parts = None  # what it says may hold a key
    if not parts or parts.get("schema") != scheme:
        raise AddressRefused(f"Apprise cannot read this as an address of {scheme}://.")
    if not all(is_allowed(name, options_of(scheme)) for name in names_of(parts)):
        raise AddressRefused(
            f"After ? an address of {scheme}:// can have only {', '.join(sorted(options_of(scheme)))}."
        )
    if scheme == "opsgenie" and not parts.get("action"):
        # by default it closes alerts that it remembers, and remembers none from one notice to the next
        parts["action"] = "new"
    asset = AppriseAsset(storage_mode=PersistentStoreMode.MEMORY, http_redirects=False)
    found = apprise.instantiate(parts, asset=asset)
    if found is None:
        raise AddressRefused(f"Apprise cannot read this as an address of {scheme}://.")
    if reads_anything(found):
        raise AddressRefused(f"The address has {scheme}:// read a file or another address.")
    found.socket_connect_timeout = CONNECT_SECONDS
    found.socket_read_timeout = TRY_SECONDS
    found.verify_certificate = True
    found.redirects = False
    found.retry = 0
    return found


def names_of(parts: dict[str, Any]) -> set[str]:
    """The options of an address as Apprise has read it: those with a sign before them are there twice."""
    signed = {f"{sign}{name}" for sign in "+-:" for name in parts.get(f"qsd{sign}") or {}}
    return {name.lower().strip() for name in {*(parts.get("qsd") or {}), *signed}} - {""}


def is_allowed(name: str, options: frozenset[str]) -> bool:
    return name in options or (name[0] in "+:" and name[0] in options)


def reads_anything(found: "NotifyBase") -> bool:
    """Whether it holds something to read when it sends: a template, a key file, a configuration."""
    from apprise import AppriseAttachment, AppriseConfig

    held = [value for value in vars(found).values() if isinstance(value, (AppriseAttachment, AppriseConfig))]
    return any(len(value) for value in held)


def send(url: str, found: "NotifyBase", title: str, text: str) -> Sent:
    """Sends by what Apprise made of the address, which does not do it asynchronously."""
    result = _apprise()(found).notify(body=text, title=title, timeout=TRY_SECONDS)
    if result:
        return Sent(is_delivered=True)
    statuses = [int(match) for entry in result.logs() for match in STATUS.findall(str(entry.message))]
    if statuses:
        return Sent(is_delivered=False, status=statuses[-1], error=f"{scheme_of(url)} answered {statuses[-1]}.")
    return Sent(is_delivered=False, error=f"{scheme_of(url)} could not be reached, or did not take it.")


def _apprise() -> "type[Apprise]":
    """Apprise loads a hundred modules: only those wait for it who use it. It logs addresses, which hold keys."""
    from apprise import Apprise

    logger = logging.getLogger("apprise")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return Apprise
