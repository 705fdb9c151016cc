"""Channels, and what is sent by them."""

from litestar import Response, delete, get, post, put

from headcount.database import calls
from headcount.http.openapi import described
from headcount.http.requests import HttpRequest, answer, decode, no_query, path_id, query
from headcount.http.services import services
from headcount.http.sessions import database, database_of_token
from headcount.wire import paging
from headcount.wire.messages import (
    ChannelIn,
    ChannelOut,
    ChannelPutOut,
    DeliveriesQuery,
    DeliveryOut,
    Id,
    Page,
    PageQuery,
)

# In a minute, over all processes: each goes to up to 50 mailboxes.
CHANNEL_TESTS = 3
TOKEN_TESTS = 10


@put(
    "/v1/channels/{channel:str}",
    opt=described(ChannelPutOut, 404, 409, scope="admin", created=True, body=ChannelIn),
)
async def put_channel(request: HttpRequest) -> Response[bytes]:
    """Create or change a channel. Absent fields stay as they are; null clears a field.

    Webhooks are signed as Standard Webhooks says. A secret that the service makes is shown in this answer only.
    """
    no_query(request)
    patch = await decode(request, ChannelIn)
    await services(request).notices.channels.check(patch)
    created, channel = await calls.put_channel(database(request), path_id(request, "channel"), patch)
    return answer(request, channel, 201 if created else 200)


@get("/v1/channels/{channel:str}", opt=described(ChannelOut, 404, scope="admin"))
async def get_channel(request: HttpRequest) -> Response[bytes]:
    """Get one channel, without its secrets."""
    no_query(request)
    return answer(request, await calls.get_channel(database(request), path_id(request, "channel")))


@get("/v1/channels", opt=described(Page[ChannelOut], scope="admin", query=PageQuery))
async def list_channels(request: HttpRequest) -> Response[bytes]:
    """List the channels by id, without their secrets."""
    asked = query(request, PageQuery)
    after = paging.read(asked.after, Id) if asked.after else None
    rows = await calls.list_channels(database(request), after, asked.limit + 1)
    return answer(request, paging.page(rows, asked.limit, lambda channel: channel.id))


@delete("/v1/channels/{channel:str}", status_code=204, opt=described(None, 404, scope="admin", status=204))
async def delete_channel(request: HttpRequest) -> None:
    """Delete a channel. Its deliveries stay in the list; those that wait to be sent are cancelled."""
    no_query(request)
    await calls.delete_channel(database(request), path_id(request, "channel"))


@post("/v1/channels/{channel:str}/test", status_code=200, opt=described(DeliveryOut, 404, scope="admin"))
async def try_channel(request: HttpRequest) -> Response[bytes]:
    """Send one test notice by a channel now, and tell the result. The number of tests a minute is limited."""
    no_query(request)
    session = database_of_token(request)
    claim = await calls.try_channel(
        session, path_id(request, "channel"), channel_tests=CHANNEL_TESTS, token_tests=TOKEN_TESTS
    )
    await services(request).notices.try_once(claim)
    rows = await calls.list_deliveries(database(request), claim.channel, before=claim.delivery + 1, max_rows=1)
    return answer(request, rows[0])


@get("/v1/deliveries", opt=described(Page[DeliveryOut], 404, scope="read", query=DeliveriesQuery))
async def list_deliveries(request: HttpRequest) -> Response[bytes]:
    """List the deliveries of one channel or of all, the newest first, each with its tries."""
    asked = query(request, DeliveriesQuery)
    before = paging.read(asked.after, int) if asked.after else None
    rows = await calls.list_deliveries(database(request), asked.channel, asked.state, before, asked.limit + 1)
    return answer(request, paging.page(rows, asked.limit, lambda delivery: int(delivery.id)))


@post("/v1/deliveries/{delivery:str}/replay", status_code=200, opt=described(DeliveryOut, 404, 409, scope="admin"))
async def replay_delivery(request: HttpRequest) -> Response[bytes]:
    """Send a notice once more, now and with the same id, whatever happened to it before."""
    no_query(request)
    delivery = await calls.replay_delivery(database(request), path_id(request, "delivery"))
    services(request).notices.wake()
    return answer(request, delivery)


HANDLERS = [
    put_channel,
    get_channel,
    list_channels,
    delete_channel,
    try_channel,
    list_deliveries,
    replay_delivery,
]
