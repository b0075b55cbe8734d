"""Make of a request what flows know of it."""

from __future__ import annotations

from quart import request

from regsvc.flows.caller import Caller
from regsvc.http.context import get_context
from regsvc.http.current import get_globals
from regsvc.http.openapi.operation import SOLUTION_HEADER
from regsvc.http.request.client import (
    get_client_network,
    get_client_word,
    get_origin,
    get_wide_network,
    limits_apply,
)
from regsvc.http.request.languages import choose_tag
from regsvc.http.request_id import get_request_id
from regsvc.mail.message.languages import FALLBACK, list_locales


def get_caller() -> Caller:
    """Return the caller of the current request: one object, whose standings become headers of the answer."""
    here = get_globals()
    if "caller" not in here:
        here.caller = Caller(
            network=get_client_network(),
            wide_network=get_wide_network(),
            origin=get_origin(),
            client=get_client_word(),
            locale=choose_tag(
                request.headers.get("Accept-Language", ""),
                list_locales(get_context().settings.templates),
                FALLBACK,
            ),
            request_id=get_request_id(),
            limited=limits_apply(),
            solution=request.headers.get(SOLUTION_HEADER, ""),
        )
    caller: Caller = here.caller
    return caller
