"""Channels, and what is sent by them."""

from litestar import delete, get, post, put
from litestar.di import NamedDependency

from headcount.database import calls
from headcount.database.pool import Client
from headcount.http.answers import Answer
from headcount.http.inputs import TOKEN_SESSION, ChannelId, DeliveryId, body_of, query_of
from headcount.http.openapi import described
from headcount.http.requests import HttpRequest
from headcount.http.services import services
from headcount.http.sessions import database
from headcount.wire import paging
from headcount.wire.messages.base import Id, Page, PageQuery
from headcount.wire.messages.notices import ChannelIn, ChannelOut, ChannelPutOut, DeliveriesQuery, DeliveryOut

# In a minute, over all processes: each goes to up to 50 mailboxes.
CHANNEL_TESTS = 3
TOKEN_TESTS = 10
CHANNEL_REPLAYS = 10
TOKEN_REPLAYS = 30
# In one page of deliveries, which has at least one: the event loop decodes and encodes them.
MAX_PAGE_TRIES = 2_000


@put(
    "/v1/channels/{channel:str}",
    dependencies={"content": body_of(ChannelIn)},
    opt=described(404, 409, scope="admin", created=True),
)
async def put_channel(
    request: HttpRequest,
    channel: ChannelId,
    content: NamedDependency[ChannelIn],
    session: NamedDependency[Client],
) -> Answer[ChannelPutOut]:
    """Create or change a channel. Absent fields stay as they are; null clears a field.

    Webhooks are signed as Standard Webhooks says. A secret that the service makes is shown in this answer only.
    """
    await services(request).notices.channels.check(content, session.name)
    created, saved = await calls.put_channel(session, channel, content)
    return Answer(saved, status_code=201 if created else 200)


@get("/v1/channels/{channel:str}", opt=described(404, scope="admin"))
async def get_channel(channel: ChannelId, session: NamedDependency[Client]) -> ChannelOut:
    """Get one channel, without its secrets."""
    return await calls.get_channel(session, channel)


@get("/v1/channels", dependencies={"params": query_of(PageQuery)}, opt=described(scope="admin"))
async def list_channels(params: NamedDependency[PageQuery], session: NamedDependency[Client]) -> Page[ChannelOut]:
    """List the channels by id, without their secrets."""
    after = paging.read(params.after, Id) if params.after else None
    rows = await calls.list_channels(session, after, params.limit + 1)
    return paging.page(rows, params.limit, lambda channel: channel.id)


@delete("/v1/channels/{channel:str}", opt=described(404, scope="admin"))
async def delete_channel(channel: ChannelId, session: NamedDependency[Client]) -> None:
    """Delete a channel. Its deliveries stay in the list; those that wait to be sent are cancelled."""
    await calls.delete_channel(session, channel)


@post(
    "/v1/channels/{channel:str}/test",
    status_code=200,
    dependencies={"session": TOKEN_SESSION},
    opt=described(404, 409, scope="admin"),
)
async def try_channel(request: HttpRequest, channel: ChannelId, session: NamedDependency[Client]) -> DeliveryOut:
    """Send one test notice by a channel now, and tell the result. The number of tests a minute is limited."""
    claim = await calls.try_channel(session, channel, channel_tests=CHANNEL_TESTS, token_tests=TOKEN_TESTS)
    await services(request).notices.try_once(claim)
    rows = await calls.list_deliveries(database(request), claim.channel, before=claim.delivery + 1, max_rows=1)
    return rows[0]


@get("/v1/deliveries", dependencies={"params": query_of(DeliveriesQuery)}, opt=described(404, scope="read"))
async def list_deliveries(
    params: NamedDependency[DeliveriesQuery], session: NamedDependency[Client]
) -> Page[DeliveryOut]:
    """List the deliveries of one channel or of all, the newest first, each with its tries.

    A page may have fewer items than `limit`; `next` says whether there are more.
    """
    before = paging.read(params.after, int) if params.after else None
    rows = await calls.list_deliveries(session, params.channel, params.state, before, params.limit + 1, MAX_PAGE_TRIES)
    return paging.page_of_parts(
        rows, params.limit, lambda delivery: int(delivery.id), lambda delivery: len(delivery.tries), MAX_PAGE_TRIES
    )


@post(
    "/v1/deliveries/{delivery:str}/replay",
    status_code=200,
    dependencies={"session": TOKEN_SESSION},
    opt=described(404, 409, scope="admin"),
)
async def replay_delivery(request: HttpRequest, delivery: DeliveryId, session: NamedDependency[Client]) -> DeliveryOut:
    """Send a notice once more, now and with the same id, whatever happened to it before; but no test.

    The number of replays a minute is limited.
    """
    replayed = await calls.replay_delivery(
        session, delivery, channel_replays=CHANNEL_REPLAYS, token_replays=TOKEN_REPLAYS
    )
    services(request).notices.wake()
    return replayed


HANDLERS = [
    put_channel,
    get_channel,
    list_channels,
    delete_channel,
    try_channel,
    list_deliveries,
    replay_delivery,
]
