"""Who is doing what the current request asks for, as the audit log has it."""

from __future__ import annotations

from regsvc.accounts.audit.record import ActorKind, By
from regsvc.http.request.client import get_client_word, get_origin
from regsvc.http.request_id import get_request_id
from regsvc.security.keys import AccessToken


def by_anyone() -> By:
    """Return that somebody does it who has not proved who they are."""
    return By("anonymous", origin=get_origin(), client=get_client_word(), request_id=get_request_id())


def by_user(token: AccessToken) -> By:
    """Return that the user of an access token does it, about themselves."""
    return _by("user", token)


def by_admin(token: AccessToken) -> By:
    """Return that the administrator of an access token does it, about anybody."""
    return _by("admin", token)


def _by(actor: ActorKind, token: AccessToken) -> By:
    return By(
        actor,
        actor_id=token.user_id,
        session_id=token.session_id,
        origin=get_origin(),
        client=get_client_word(),
        request_id=get_request_id(),
    )
