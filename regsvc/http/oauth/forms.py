"""The form that calls of OAuth 2.0 take."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints
from quart import request

from regsvc.errors import ValidationFailedError
from regsvc.http.request.body import check_content_coding, read_pairs, read_values
from regsvc.http.response.errors import FormNeededError
from regsvc.schemas.fields import Body
from regsvc.security.signing.access_token import MAX_TOKEN_BYTES

_MOST_FIELDS = 16


class TokenForm(Body):
    """A token, and what kind the client takes it for, which is a hint alone."""

    token: Annotated[str, StringConstraints(max_length=MAX_TOKEN_BYTES)]
    token_type_hint: str | None = None


async def read_token_form() -> TokenForm:
    """Return the form of the current request.

    Raises:
        FormNeededError: the body is not sent as a form.
        ValidationFailedError: it has no token, or one field twice (RFC 6749 section 3.2).
    """
    check_content_coding()
    if request.mimetype != "application/x-www-form-urlencoded":
        raise FormNeededError
    pairs = await read_pairs(_MOST_FIELDS)
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValidationFailedError("The form has a field twice.")
    return read_values(TokenForm, fields)
