"""The ASGI application: its routes, and the headers of every answer."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from quart import Response, g, request
from quart.ctx import RequestContext
from quart.typing import ResponseReturnValue
from quart.wrappers import Request
from quart_trio import QuartTrio

from regsvc.http.admin import audit_log, mails, signing_keys, supervisor, suppressions, users, webhooks
from regsvc.http.admin import invitations as admin_invitations
from regsvc.http.admin import registrations as admin_registrations
from regsvc.http.api import (
    account_data,
    address_advice,
    confirmation,
    email_change,
    health,
    live_status,
    login,
    login_code,
    passwords,
    profile,
    registrations,
    resend,
    sessions,
)
from regsvc.http.api.factors import passkey_login, passkeys, proof, second_factor, totp
from regsvc.http.api.identities import own as own_identities
from regsvc.http.api.identities import providers as identity_providers
from regsvc.http.api.policy import challenge, invitations, terms
from regsvc.http.api.security import activity, panic
from regsvc.http.context import Context, get_context, put_context
from regsvc.http.current import get_connection
from regsvc.http.feedback import intake
from regsvc.http.framework import LeanApplication, encode_name
from regsvc.http.oauth import introspection, issuer
from regsvc.http.openapi import document
from regsvc.http.pages import (  # noqa: F401 - they add their routes
    account,
    dev_mailbox,
    email_links,
    page,
    signup,
    signup_status,
)
from regsvc.http.pages import login as login_page  # noqa: F401 - likewise
from regsvc.http.pages.api_reference import add_reference
from regsvc.http.pages.console import invitations as console_invitations  # noqa: F401 - likewise
from regsvc.http.pages.console import lists, mail_templates, overview  # noqa: F401 - likewise
from regsvc.http.pages.console import suppressions as suppressions_page  # noqa: F401 - likewise
from regsvc.http.pages.console import webhooks as console_webhooks  # noqa: F401 - likewise
from regsvc.http.pages.factors import proof as proof_page  # noqa: F401 - likewise
from regsvc.http.pages.factors import second_factor as second_factor_page  # noqa: F401 - likewise
from regsvc.http.pages.factors import security  # noqa: F401 - likewise
from regsvc.http.pages.identities import journey, own  # noqa: F401 - likewise
from regsvc.http.pages.login_code import code_pages  # noqa: F401 - likewise
from regsvc.http.pages.passkeys import login as passkey_login_page  # noqa: F401 - likewise
from regsvc.http.pages.passkeys import own as own_passkeys  # noqa: F401 - likewise
from regsvc.http.pages.passkeys import related_origins  # noqa: F401 - likewise
from regsvc.http.pages.reports import violations  # noqa: F401 - likewise
from regsvc.http.request.client import get_client_network, get_origin, limits_apply
from regsvc.http.request.rate_limits import add_limit_headers
from regsvc.http.request_id import HEADER, get_request_id
from regsvc.http.request_trace import trace_request
from regsvc.http.response.cors import add_cors_headers
from regsvc.http.response.problems import register_error_handlers

PREFIX = "/api/v1"

_API = (
    registrations,
    address_advice,
    resend,
    confirmation,
    live_status,
    login,
    login_code,
    passkey_login,
    passkeys,
    second_factor,
    proof,
    totp,
    passwords,
    sessions,
    profile,
    terms,
    challenge,
    invitations,
    admin_invitations,
    email_change,
    account_data,
    panic,
    activity,
    mails,
    admin_registrations,
    users,
    signing_keys,
    audit_log,
    supervisor,
    suppressions,
    webhooks,
    intake,
    identity_providers,
    own_identities,
)
_UNCOUNTED = {health.blueprint.name, intake.blueprint.name}
_REQUEST_ID = encode_name(HEADER)
_EVERYWHERE = [
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),  # CORS has a list of its own
]
_TLS_ALONE = (b"strict-transport-security", b"max-age=31536000")
_UNLESS_SET = [
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]


class _Application(LeanApplication):
    everywhere: Sequence[tuple[bytes, bytes]]  # headers

    async def handle_request(self, request: Request) -> Response:
        """Answer a request, in a span if it is traced."""
        return await trace_request(super().handle_request, request)

    async def dispatch_request(self, request_context: RequestContext | None = None) -> ResponseReturnValue:
        """Call the handler when it is the client's turn; probes are answered at once."""
        if request.blueprint in _UNCOUNTED or not limits_apply():
            return await super().dispatch_request(request_context)
        async with get_context().turns.taken(get_client_network()) as g.end_turn:
            return await super().dispatch_request(request_context)

    def list_headers(self, response: Response) -> list[tuple[bytes, bytes]]:
        """Return the headers of an answer with those that every answer has (ASVS 5.0 chapter 3.4)."""
        add_limit_headers(response)
        add_cors_headers(response)
        pairs = super().list_headers(response)
        names = {name for name, _ in pairs}
        pairs += self.everywhere
        pairs += [pair for pair in _UNLESS_SET if pair[0] not in names]
        pairs.append((_REQUEST_ID, get_request_id().encode()))
        return pairs


def create_app(context: Context) -> QuartTrio:
    """Return the ASGI application."""
    app = _Application("regsvc.http", static_folder=None)
    # TLS ends at a proxy before us: a request here is always plain.
    app.everywhere = _EVERYWHERE + [_TLS_ALONE] * context.settings.public_url.startswith("https:")
    app.config["MAX_CONTENT_LENGTH"] = None  # the server refuses what is too large
    app.config["BODY_TIMEOUT"] = None  # the server's own deadline is nearer to the socket
    app.config["RESPONSE_TIMEOUT"] = None
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 0  # revalidate: a page and its script are of one version
    app.url_map.merge_slashes = False  # the redirect would name whatever host the client claims
    put_context(app.config, context)
    register_error_handlers(app)
    app.before_request(_begin)
    app.before_websocket(_begin)
    for outside in (health, issuer, introspection):
        app.register_blueprint(outside.blueprint)
    for room in _API:
        app.register_blueprint(room.blueprint, url_prefix=PREFIX)
    page.dress(app, context.settings)
    app.register_blueprint(page.blueprint)
    add_reference(app, document.describe(app, public_url=context.settings.public_url))
    app.freeze()
    return app


async def _begin() -> None:
    """Put the request's id on every line that is logged on its behalf, in place of the last one's of its connection.

    The access log gets the network of the client, which only the application can tell from its proxy's.
    """
    structlog.contextvars.bind_contextvars(request_id=get_request_id())
    connection = get_connection()
    # Where the server is not ours, as in a test client, there is no state and no access log.
    connection.scope.get("state", {})["client_prefix"] = get_origin()
