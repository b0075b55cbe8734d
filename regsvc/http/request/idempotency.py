"""The header `Idempotency-Key`: a client that is not sure whether a request arrived may send it again.

A call that takes it reads `read_once(body)` and has its transaction begin with `claim_once`.
"""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel
from quart import request

from regsvc.accounts.limits.idempotency import (
    IdempotencyKeyReusedError,
    Once,
    RequestInFlightError,
    find_subject,
)
from regsvc.errors import FieldError, ValidationFailedError
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Parameter
from regsvc.http.request.client import get_client_network, get_client_word
from regsvc.security.tokens import blind

HEADER = "Idempotency-Key"
_LONGEST = 255
PARAMETER = Parameter(
    HEADER,
    "The client's choice: within 24 hours it is done once.",
    schema={"type": "string", "minLength": 1, "maxLength": _LONGEST},
)
ERRORS = (IdempotencyKeyReusedError, RequestInFlightError)

_LABEL = "idempotency"


def read_once(body: BaseModel) -> Once | None:
    """Return by what the current request is known when it comes again; None: the client does not say.

    Args:
        body: what came, checked. Another body with the same key is another request.

    Raises:
        ValidationFailedError: the key is empty, too long, or not of ASCII's visible characters.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not (0 < len(key) <= _LONGEST and key.isascii() and key.isprintable() and " " not in key):
        raise ValidationFailedError(
            f"{HEADER} has 1 to {_LONGEST} visible ASCII characters.",
            fields=[FieldError(HEADER, "invalid", "not a key")],
        )
    secrets = get_context().secrets
    # A neighbour in the same network has keys of its own.
    client = (get_client_network(), get_client_word())
    return Once(
        key=blind(secrets, _LABEL, "key", str(request.url_rule), *client, key),
        fingerprint=blind(secrets, _LABEL, "body", body.model_dump_json()),
    )


async def find_done(once: Once | None) -> UUID | None:
    """Return what the current request made when it was done before, so that the caller need not do it again.

    Raises:
        IdempotencyKeyReusedError: it was another request.
    """
    if once is None:
        return None
    async with get_context().pool.connection() as conn:
        return await find_subject(conn, once)
