"""Tokens: who may speak to the service."""

import msgspec
from litestar import Response, delete, get, post

from service import calls, cursor
from service.auth import Gate, digest_of, make_token
from service.db import database
from service.messages import Id, Page, PageQuery, TokenIn, TokenMadeOut, TokenOut
from service.negotiation import HttpRequest, answer, decode, no_query, path_id, query
from service.openapi import described


@post("/v1/tokens", opt=described(TokenMadeOut, scope="admin", status=201, body=TokenIn))
async def create_token(request: HttpRequest) -> Response[bytes]:
    """Makes a token, which is in this answer and nowhere else.

    On behalf of a token that is limited to a space: within that space, with its own scopes, for no longer and no
    faster than itself.
    """
    no_query(request)
    token = make_token()
    body = msgspec.structs.asdict(await decode(request, TokenIn))
    made = await calls.create_token(database(request), digest_of(token), **body)
    return answer(request, TokenMadeOut(**msgspec.structs.asdict(made), token=token), 201)


@get("/v1/tokens", opt=described(Page[TokenOut], scope="admin", query=PageQuery))
async def list_tokens(request: HttpRequest) -> Response[bytes]:
    """The tokens by id, those that were revoked or have expired too; never what is secret of them."""
    asked = query(request, PageQuery)
    after = cursor.read(asked.after, Id) if asked.after else None
    rows = await calls.list_tokens(database(request), after, asked.limit + 1)
    return answer(request, cursor.page(rows, asked.limit, lambda token: token.id))


@delete("/v1/tokens/{token:str}", status_code=204, opt=described(None, 404, scope="admin", status=204))
async def revoke_token(request: HttpRequest) -> None:
    """Ends a token for good, here at once and in other processes within seconds."""
    no_query(request)
    token = path_id(request, "token")
    await calls.revoke_token(database(request), token)
    gate: Gate = request.app.state.gate
    if gate.tokens:
        gate.tokens.forget(token)


HANDLERS = [create_token, list_tokens, revoke_token]
