"""Who looks at a page: the session that a browser's cookie stands for.

The cookie is of this host alone, out of the reach of scripts and of other sites (`__Host-`, HttpOnly, SameSite=Strict).
The API never looks at it: it knows bearer tokens, which no browser sends by itself.
"""

from __future__ import annotations

from quart import Response

from regsvc.accounts.sessions.browser_session import resume_session
from regsvc.accounts.sessions.refresh_token import Grant
from regsvc.accounts.sessions.session import LIFE
from regsvc.http.context import get_context
from regsvc.http.pages.forms import get_cookies, lead_to, set_cookie
from regsvc.security.keys import AccessToken
from regsvc.security.tokens import mint_session_cookie, read_session_cookie

_COOKIE = "regsvc-session"


async def find_visitor() -> AccessToken | None:
    """Return who is logged in with this browser, or None."""
    context = get_context()
    read = (read_session_cookie(context.secrets, value) for value in get_cookies(_COOKIE))
    session_id = next((found for found in read if found is not None), None)
    if session_id is None:
        return None
    async with context.pool.connection() as conn:
        return await resume_session(conn, session_id)


def keep_session(response: Response, granted: Grant) -> None:
    """Have a browser be in a session that was just started; its refresh token is given to nobody."""
    cookie = mint_session_cookie(get_context().secrets, granted.session_id)
    set_cookie(response, _COOKIE, cookie, seconds=int(LIFE.total_seconds()))


def forget_session(response: Response) -> None:
    """Have a browser be in no session any more."""
    set_cookie(response, _COOKIE, "")


def lead_to_login() -> Response:
    """Redirect a browser to the login page, with no session that would lead it back here."""
    response = lead_to("/login")
    forget_session(response)
    return response
