"""The live status of a registration over a websocket.

The socket carries the truth as it stands in the database each time there is a hint that it changed: after any
fault, the first frame is right, and a state that came and went meanwhile is simply not shown.
"""

from __future__ import annotations

import json
import math
from uuid import UUID

import structlog
import trio
from quart import Blueprint, Response, websocket

from regsvc.accounts.registrations.registration import RegistrationNotFoundError
from regsvc.flows.signup.signup import check_handle
from regsvc.http.context import Context, get_context
from regsvc.http.request.client import get_client_network, get_wide_network, limits_apply
from regsvc.http.response.errors import OriginNotAllowedError
from regsvc.http.waiting_room import FAILED, NO_HANDLE, RESTART, UNKNOWN
from regsvc.http.websocket_limits import PER_CLIENT, PER_REGISTRATION, PER_SITE, Places, TooManyWaitingError
from regsvc.metrics import RATE_LIMITED

log = structlog.get_logger()
blueprint = Blueprint("live", __name__)

FIRST_FRAME = 5.0  # seconds for the frame with the handle
# Seconds that we may be late ourselves to see that no frame came: beyond them it may have come and not been read.
_LATE = 0.25

TOO_MANY = 4429
_WHY = {NO_HANDLE: UNKNOWN, TOO_MANY: "too many websockets"}


@blueprint.websocket("/registrations/<registration_id>/live")
async def live(registration_id: str) -> Response | None:
    """Take the handle, then leave the websocket to the waiting room, which shows every state until a final one."""
    context = get_context()
    _check_origin(context)
    await websocket.accept()
    per_registration, per_client = (PER_REGISTRATION, PER_CLIENT) if limits_apply() else (math.inf, math.inf)
    site = get_wide_network()
    per_site = PER_SITE if site and limits_apply() else math.inf
    try:
        with Places(context.sockets) as places:
            places.enter(get_client_network(), per_client)
            places.enter(site, per_site)
            known, late = await _read_handle(context, registration_id)
            if known is not None:
                places.enter(known, per_registration)
                context.waiting_room.invite(websocket.scope["extensions"], known, places.keep())
                return None
            ending = RESTART if late else NO_HANDLE
    except TooManyWaitingError:
        RATE_LIMITED.labels("websockets").inc()
        context.refusal_alarm.note("websockets", get_client_network())
        ending = TOO_MANY
    except Exception:
        # Left to the framework it would end as 1000, which says that the state is final.
        log.exception("live status failed")
        ending = FAILED
    await websocket.close(ending, _WHY.get(ending, ""))
    return None


async def _read_handle(context: Context, registration_id: str) -> tuple[UUID | None, bool]:
    """Return the registration that the first frame opens, or None, and whether we ourselves were late to read it."""
    with trio.move_on_after(FIRST_FRAME) as patience:
        first = await websocket.receive()
        return _open(context, registration_id, first), False
    return None, trio.current_time() - patience.deadline > _LATE


def _open(context: Context, registration_id: str, first: str | bytes) -> UUID | None:
    """Return the registration that a first frame opens, or None."""
    try:
        frame = json.loads(first) if isinstance(first, str) else None
    except (ValueError, RecursionError):
        return None
    handle = frame.get("handle") if isinstance(frame, dict) else None
    if not isinstance(handle, str):
        return None
    try:
        return check_handle(context, registration_id, handle)
    except RegistrationNotFoundError:
        return None


def _check_origin(context: Context) -> None:
    """Refuse pages of other sites: a browser says where a page came from (RFC 6455 section 10.2)."""
    origin = websocket.headers.get("Origin")
    if origin is not None and origin not in context.settings.origins:
        raise OriginNotAllowedError
