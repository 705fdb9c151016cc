"""Dry runs: what a change of the floor plan would answer, and which counts would be others."""

from typing import Any

import msgspec

from headcount.database import calls
from headcount.wire.instants import encoded
from headcount.wire.messages.plan import CountChange


async def preview(
    brief: calls.Session, session: calls.Session, change: str, arguments: object
) -> tuple[dict[str, Any], list[CountChange]]:
    """The fields of the answer as they come out of JSON, and the counts.

    The change is made and rolled back by `brief`, where the floor plan is locked, and counts are compared by
    `session` afterwards, when it is not.
    """
    found = await calls.preview_change(brief, change, msgspec.json.encode(arguments, enc_hook=encoded).decode())
    result = msgspec.json.decode(found.result or "{}")
    if isinstance(result, list):
        result = {"changes": result}
    if "from_at" in result:
        result |= {"from": result["from_at"], "until": result["until_at"]}
    return result, await calls.compare_counts(session, found.facts)
