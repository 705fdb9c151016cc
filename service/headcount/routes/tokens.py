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
    """Create a token. It is shown in this answer only.

    The new token has no longer life and no higher rates than the token that asks. If that one is limited to a space,
    the new one is limited to that space or one below, with the same scopes at most. Without tokens
    (HEADCOUNT_AUTH=off) use the command.
    """
    no_query(request)
    token = make_token()
    body = msgspec.structs.asdict(await decode(request, TokenIn))
    refuse_without_tokens(request)
    made = await calls.create_token(database_of_token(request), digest_of(token), **body)
    return answer(request, TokenMadeOut(**msgspec.structs.asdict(made), token=token), 201)


@get("/v1/tokens", opt=described(Page[TokenOut], scope="admin", query=PageQuery))
async def list_tokens(request: HttpRequest) -> Response[bytes]:
    """List the tokens by id, with those that were revoked or have expired; never their secrets."""
    asked = query(request, PageQuery)
    after = paging.read(asked.after, Id) if asked.after else None
    rows = await calls.list_tokens(database(request), after, asked.limit + 1)
    return answer(request, paging.page(rows, asked.limit, lambda token: token.id))


@delete(
    "/v1/tokens/{token:str}", status_code=204, opt=described(None, 404, scope="admin", status=204, query=RevokeQuery)
)
async def revoke_token(request: HttpRequest) -> None:
    """Revoke a token for good, with all tokens that it made.

    This process refuses it at once, others within seconds.
    """
    asked = query(request, RevokeQuery)
    gate = services(request).gate
    await calls.revoke_token(database(request), path_id(request, "token"), asked.descendants)
    if gate.tokens:
        gate.tokens.doubt()


HANDLERS = [create_token, list_tokens, revoke_token]
