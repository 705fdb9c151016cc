"""Tokens: who may speak to the service."""

import msgspec
from litestar import delete, get, post
from litestar.di import NamedDependency

from headcount.database import calls
from headcount.database.pool import Client
from headcount.http.auth import digest_of, make_token, refuse_without_tokens
from headcount.http.inputs import TOKEN_SESSION, TokenId, body_of, query_of
from headcount.http.openapi import described
from headcount.http.requests import HttpRequest
from headcount.http.services import services
from headcount.wire import paging
from headcount.wire.messages.base import Id, Page, PageQuery
from headcount.wire.messages.tokens import RevokeQuery, TokenIn, TokenMadeOut, TokenOut


@post(
    "/v1/tokens",
    dependencies={"session": TOKEN_SESSION, "content": body_of(TokenIn)},
    opt=described(409, scope="admin"),
)
async def create_token(
    request: HttpRequest, content: NamedDependency[TokenIn], session: NamedDependency[Client]
) -> TokenMadeOut:
    """Create a token. It is shown in this answer only.

    The new token has no longer life and no higher rates than the token that asks. If that one is limited to a space,
    the new one is limited to that space or one below, with the same scopes at most. Without tokens
    (HEADCOUNT_AUTH=off) use the command.
    """
    refuse_without_tokens(request)
    token = make_token()
    made = await calls.create_token(session, digest_of(token), **msgspec.structs.asdict(content))
    return TokenMadeOut(**msgspec.structs.asdict(made), token=token)


@get("/v1/tokens", dependencies={"params": query_of(PageQuery)}, opt=described(scope="admin"))
async def list_tokens(params: NamedDependency[PageQuery], session: NamedDependency[Client]) -> Page[TokenOut]:
    """List the tokens by id, with those that were revoked or have expired; never their secrets."""
    after = paging.read(params.after, Id) if params.after else None
    rows = await calls.list_tokens(session, after, params.limit + 1)
    return paging.page(rows, params.limit, lambda token: token.id)


@delete("/v1/tokens/{token:str}", dependencies={"params": query_of(RevokeQuery)}, opt=described(404, scope="admin"))
async def revoke_token(
    request: HttpRequest, token: TokenId, params: NamedDependency[RevokeQuery], session: NamedDependency[Client]
) -> None:
    """Revoke a token for good, with all tokens that it made.

    This process refuses it at once, others within seconds.
    """
    authenticator = services(request).authenticator
    is_news = await calls.revoke_token(session, token, params.descendants)
    if authenticator.tokens and is_news:
        authenticator.tokens.doubt()


HANDLERS = [create_token, list_tokens, revoke_token]
