"""The headers that tell a client how it stands with the limits that counted its request."""

from __future__ import annotations

import math

from quart import Response

from regsvc.http.current import get_globals


def add_limit_headers(response: Response) -> None:
    """Add the fields of draft-ietf-httpapi-ratelimit-headers.

    They give quota and window of each limit, what remains, and the seconds until all of it is there again.
    """
    caller = get_globals().get("caller")
    if caller is not None and caller.standings:
        response.headers["RateLimit-Policy"] = ", ".join(
            f'"{it.limit.name}";q={it.limit.quota};w={it.limit.seconds}' for it in caller.standings
        )
        response.headers["RateLimit"] = ", ".join(
            f'"{it.limit.name}";r={it.remaining};t={math.ceil(it.reset)}' for it in caller.standings
        )
