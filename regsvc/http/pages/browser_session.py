"""Who looks at a page: the session that a browser's cookie stands for.

The cookie is of this host alone, out of the reach of scripts and of other sites (`__Host-`, HttpOnly, SameSite=Strict).
The API never looks at it: it knows bearer tokens, which no browser sends by itself.
"""

from __future__ import annotations

from quart import Response, g

from regsvc.accounts.sessions.refresh_token import Grant
from regsvc.accounts.sessions.session import LIFE
from regsvc.flows.login.sessions import resume
from regsvc.http.context import get_context
from regsvc.http.pages.forms import get_cookies, lead_to, set_cookie
from regsvc.http.pages.page import blueprint
from regsvc.http.request.caller import get_caller
from regsvc.security.signing.access_token import AccessToken
from regsvc.security.tokens import SessionCookie, mint_session_cookie, read_session_cookie

_COOKIE = "regsvc-session"


async def find_visitor() -> AccessToken | None:
    """Return who is logged in with this browser, or None; the answer brings a renewed cookie when it is time."""
    context = get_context()
    read = (read_session_cookie(context.secrets, value) for value in get_cookies(_COOKIE))
    cookie = next((found for found in read if found is not None), None)
    if cookie is None:
        return None
    resumed = await resume(context, get_caller(), cookie)
    if resumed is None:
        return None
    if resumed.renewed is not None:
        g.session_cookie = resumed.renewed
    return resumed.token


def keep_session(response: Response, granted: Grant) -> None:
    """Set the cookie of a new session. The refresh token is not handed out."""
    g.pop("session_cookie", None)
    _set(response, SessionCookie(granted.session_id))


def forget_session(response: Response) -> None:
    """Delete the session cookie."""
    g.pop("session_cookie", None)
    set_cookie(response, _COOKIE, "")


def lead_to_login() -> Response:
    """Redirect a browser to the login page, with no session that would lead it back here."""
    response = lead_to("/login")
    forget_session(response)
    return response


@blueprint.after_request
async def renew_cookie(response: Response) -> Response:
    """Set the session cookie that was renewed in this request."""
    renewed = g.pop("session_cookie", None)
    if renewed is not None:
        _set(response, renewed)
    return response


def _set(response: Response, cookie: SessionCookie) -> None:
    text = mint_session_cookie(get_context().secrets, cookie)
    set_cookie(response, _COOKIE, text, seconds=int(LIFE.total_seconds()))
