"""What a browser forgets when a session ends (ASVS 5.0, 14.3.1)."""

from __future__ import annotations

from urllib.parse import urlsplit

from quart import Response

from regsvc.config.notations import is_loopback
from regsvc.http.context import get_context

HEADER = "Clear-Site-Data"
# Not "cookies": browsers would delete those of the whole registrable domain, with the sessions of other services on it.
# Ours is deleted by name.
_WHAT = '"cache", "storage"'


def clear_site_data(response: Response) -> Response:
    """Add to an answer that the browser forgets what it stored for this origin, and return it.

    Browsers heed the header at trustworthy origins alone, and complain elsewhere.
    """
    url = urlsplit(get_context().settings.public_url)
    if url.scheme == "https" or is_loopback(url.hostname or ""):
        response.headers[HEADER] = _WHAT
    return response
