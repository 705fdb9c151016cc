"""Tokens: who may speak to the service."""

import msgspec
from litestar import Response, delete, get, post

from headcount.database import calls
from headcount.http.auth import digest_of, make_token, refuse_without_tokens
from headcount.http.openapi import described
from headcount.http.requests import HttpRequest, answer, decode, no_query, path_id, query
from headcount.http.services import services
from headcount.http.sessions import database, database_of_token
from headcount.wire import paging
from headcount.wire.messages import Id, Page, PageQuery, RevokeQuery, TokenIn, TokenMadeOut, TokenOut


@post("/v1/tokens", opt=described(TokenMadeOut, 409, scope="admin", status=201, body=TokenIn))
async def create_token(request: HttpRequest) -> Response[bytes]:
    """Makes a token, which is in this answer and nowhere else.

    For no longer and no faster than the token that asks; if that is limited to a space, within that space and with
    its own scopes. Without tokens (HEADCOUNT_AUTH=off) there is only the command.
    """
    no_query(request)
    token = make_token()
    body = msgspec.structs.asdict(await decode(request, TokenIn))
    refuse_without_tokens(request)
    made = await calls.create_token(database_of_token(request), digest_of(token), **body)
    return answer(request, TokenMadeOut(**msgspec.structs.asdict(made), token=token), 201)


@get("/v1/tokens", opt=described(Page[TokenOut], scope="admin", query=PageQuery))
async def list_tokens(request: HttpRequest) -> Response[bytes]:
    """The tokens by id, those that were revoked or have expired too; never what is secret of them."""
    asked = query(request, PageQuery)
    after = paging.read(asked.after, Id) if asked.after else None
    rows = await calls.list_tokens(database(request), after, asked.limit + 1)
    return answer(request, paging.page(rows, asked.limit, lambda token: token.id))


@delete(
    "/v1/tokens/{token:str}", status_code=204, opt=described(None, 404, scope="admin", status=204, query=RevokeQuery)
)
async def revoke_token(request: HttpRequest) -> None:
    """Ends a token for good, here at once and in other processes within seconds, and with it those it made."""
    asked = query(request, RevokeQuery)
    gate = services(request).gate
    await calls.revoke_token(database(request), path_id(request, "token"), asked.descendants)
    if gate.tokens:
        gate.tokens.doubt()


HANDLERS = [create_token, list_tokens, revoke_token]
