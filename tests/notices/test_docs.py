"""What docs/how-to/notices.md tells receivers to do."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from headcount.settings import VARIABLES
from headcount.wire.messages.notices import ChannelPutOut
from tests.acceptance.test_readme import parse
from tests.http import body

DOCS = (Path(__file__).parent.parent.parent / "docs/how-to/notices.md").read_text()
SECRET = "whsec_" + "QUJD" * 8


def test_its_receiver_takes_each_notice_once_and_none_that_is_forged() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    text, now = '{"type":"sensor.offline"}', datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", now, text),
    }
    assert names["receive"](SECRET, headers, text.encode()) == {"type": "sensor.offline"}
    assert names["receive"](SECRET, headers, text.encode()) is None
    with pytest.raises(WebhookVerificationError):
        names["receive"](SECRET, headers, b"{}")


async def test_its_channel_can_be_made_and_looks_like_that(
    client: httpx.AsyncClient, connection: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(host: str, port: int) -> list[str]:
        return ["93.184.216.34"]

    monkeypatch.setattr("headcount.notices.look_ups.addresses_of", look_up)
    ((command, answer),) = re.findall(r"```sh\n(curl .*?)\n```\n```json\n(.*?)\n```", DOCS, re.DOTALL)
    method, path, headers, content = parse(command.replace("\\\n", ""))
    made = body(await client.request(method, path, headers=headers, content=content), 201)
    expected = json.loads(answer)
    assert list(made) == list(expected)
    assert set(made) == set(ChannelPutOut.__struct_fields__)
    told_later = {"secret": None, "created_at": None}
    assert {**made, **told_later} == {**expected, **told_later}


def test_its_settings_are_settings() -> None:
    assert set(re.findall(r"`(HEADCOUNT_\w+)`", DOCS)) <= set(VARIABLES.values())
