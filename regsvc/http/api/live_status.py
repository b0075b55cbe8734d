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

from regsvc.accounts.registrations.registration import (
    FINAL,
    Registration,
    RegistrationNotFoundError,
    get_registration,
)
from regsvc.errors import DatabaseUnavailableError
from regsvc.flows.signup.signup import check_handle
from regsvc.http.context import Context, get_context
from regsvc.http.request.client import get_client_network, get_wide_network, limits_apply
from regsvc.http.response.errors import OriginNotAllowedError
from regsvc.http.websocket_limits import PER_CLIENT, PER_REGISTRATION, PER_SITE, TooManyWaitingError
from regsvc.metrics import RATE_LIMITED
from regsvc.schemas.formats import timestamp
from regsvc.schemas.registrations import show_bounce
from regsvc.waiting import wait_any

log = structlog.get_logger()
blueprint = Blueprint("live", __name__)

FIRST_FRAME = 5.0  # seconds for the frame with the handle
# Seconds that we may be late ourselves to see that no frame came: beyond them it may have come and not been read.
_LATE = 0.25
_RETRY = 1.0  # seconds until the next look when the database is away

NORMAL = 1000
FAILED = 1011
RESTART = 1012
NO_HANDLE = 4401
TOO_MANY = 4429
_WHY = {NO_HANDLE: "bad or no handle", TOO_MANY: "too many websockets"}


@blueprint.websocket("/registrations/<registration_id>/live")
async def live(registration_id: str) -> Response | None:
    """Take the handle, show the current state at once, then every change, until the state is final."""
    context = get_context()
    _check_origin(context)
    await websocket.accept()
    per_registration, per_client = (PER_REGISTRATION, PER_CLIENT) if limits_apply() else (math.inf, math.inf)
    site = get_wide_network()
    per_site = PER_SITE if site and limits_apply() else math.inf
    ending = RESTART
    try:
        with (
            context.sockets.counted(get_client_network(), per_client),
            context.sockets.counted(site, per_site),
        ):
            known, late = await _read_handle(context, registration_id)
            if known is None:
                ending = RESTART if late else NO_HANDLE
            else:

                async def show() -> None:
                    nonlocal ending
                    ending = await _show_changes(context, known)

                with context.sockets.counted(known, per_registration):
                    await wait_any(show, context.stopping.wait, _ignore_frames)
    except* TooManyWaitingError:
        RATE_LIMITED.labels("websockets").inc()
        context.refusal_alarm.note("websockets", get_client_network())
        ending = TOO_MANY
    except* Exception as group:
        # Left to the framework it would end as 1000, which says that the state is final.
        log.exception("live status failed", exc_info=group)
        ending = FAILED
    await websocket.close(ending, _WHY.get(ending, ""))
    return None


async def _show_changes(context: Context, registration_id: UUID) -> int:
    """Send each new state until a final one, or until there is none to show; return the close code of that end."""
    seen = 0
    with context.hub.waiting(registration_id) as waiter:
        while True:
            try:
                async with context.pool.connection() as conn:
                    registration = await get_registration(conn, registration_id)
            except DatabaseUnavailableError:
                await trio.sleep(_RETRY)
                continue
            if registration is None:
                return NO_HANDLE  # deleted: there is nothing that the handle opens
            waiter.seen = registration.seq
            if registration.seq > seen:
                seen = registration.seq
                await websocket.send(json.dumps(_frame(registration)))
            if registration.state in FINAL:
                return NORMAL
            await waiter.wait_change()


def _frame(registration: Registration) -> dict[str, object]:
    return {
        "seq": registration.seq,
        "state": registration.state,
        "at": timestamp(registration.changed_at),
        "attempts": registration.attempts,
        "next_try_at": timestamp(registration.next_try_at),
        "reason": registration.reason,
        "expires_at": timestamp(registration.expires_at),
        "delivered_at": timestamp(registration.delivered_at),
        "bounce": show_bounce(registration),
    }


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


async def _ignore_frames() -> None:
    """Read whatever else the client sends: unread frames would hide that it went away."""
    while True:
        await websocket.receive()


def _check_origin(context: Context) -> None:
    """Refuse pages of other sites: a browser says where a page came from (RFC 6455 section 10.2)."""
    origin = websocket.headers.get("Origin")
    if origin is not None and origin not in context.settings.origins:
        raise OriginNotAllowedError
