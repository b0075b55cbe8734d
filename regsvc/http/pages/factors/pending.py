"""The login of a browser that awaits its second factor: a cookie with its token, out of the reach of scripts."""

from __future__ import annotations

from quart import Response

from regsvc.accounts.factors.pending_logins import LIFE
from regsvc.http.pages.forms import get_cookies, lead_to, set_cookie

_COOKIE = "regsvc-login"


def lead_to_second_step(mfa_token: str) -> Response:
    """Redirect a browser whose first step has passed to the page of the second."""
    response = lead_to("/login/second-factor")
    set_cookie(response, _COOKIE, mfa_token, seconds=int(LIFE.total_seconds()))
    return response


def get_pending() -> str | None:
    """Return the token of the browser's login, or None if it has begun none."""
    return next(iter(get_cookies(_COOKIE)), None)


def forget_pending(response: Response) -> None:
    """Delete the cookie of a login that is over."""
    set_cookie(response, _COOKIE, "")
