"""Reports of browsers that something broke the policy of a page (CSP level 3, 5.3; ASVS 5.0, 3.4.7).

A report is a hint that any client may send. It changes nothing; addresses in it are logged without what may be secret.
"""

from __future__ import annotations

import json
from typing import Annotated
from urllib.parse import urlsplit

import structlog
from pydantic import ConfigDict, Field, StringConstraints
from quart import Response, request

from regsvc.errors import ValidationFailedError
from regsvc.flows.rate_limits import POLICY_REPORTS, throttle
from regsvc.http.context import get_context
from regsvc.http.pages.page import REPORTS, blueprint
from regsvc.http.request.body import check_content_coding, read_values
from regsvc.http.request.caller import get_caller
from regsvc.http.response.errors import UnsupportedMediaTypeError
from regsvc.http.response.json_response import empty
from regsvc.schemas.fields import Body

log = structlog.get_logger()

_Text = Annotated[str, StringConstraints(max_length=8192)]
_LONGEST = 100  # characters of a logged text


class Violation(Body):
    """The members of a report that are looked at."""

    model_config = ConfigDict(extra="ignore")

    page: Annotated[_Text, Field(validation_alias="document-uri")] = ""
    directive: Annotated[_Text, Field(validation_alias="effective-directive")] = ""
    blocked: Annotated[_Text, Field(validation_alias="blocked-uri")] = ""


@blueprint.post(REPORTS)
async def take_report() -> Response:
    """Log that something broke the policy of a page."""
    check_content_coding()
    if request.mimetype != "application/csp-report":
        raise UnsupportedMediaTypeError
    await throttle(get_context(), get_caller(), POLICY_REPORTS)
    found = read_values(Violation, _read(await request.get_data(cache=False)))
    log.info(
        "policy of a page violated",
        page=_shorten(urlsplit(found.page).path),
        directive=_shorten(found.directive),
        blocked=_shorten(_find_origin(found.blocked)),
    )
    return empty()


def _read(raw: bytes | str) -> object:
    try:
        return json.loads(raw)["csp-report"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValidationFailedError from None


def _find_origin(uri: str) -> str:
    """Return scheme and host of what was blocked, or the word that stands for it, such as `inline`."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.hostname or ''}" if parts.scheme else uri


def _shorten(text: str) -> str:
    return text[:_LONGEST]
