"""Answers of passkeys in the forms of pages: JSON in a hidden field, which a script fills in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar

from regsvc.errors import ValidationFailedError
from regsvc.http.request.body import read_values
from regsvc.schemas.fields import Body
from regsvc.security.passkeys.client_data import PasskeyInvalidError, reading_answer

Model = TypeVar("Model", bound=Body)


def read_answer(form: Mapping[str, str], name: str, model: type[Model]) -> Model:
    """Return the answer of a passkey in a field of a form.

    Raises:
        PasskeyInvalidError: there is none.
    """
    with reading_answer():
        value = json.loads(form.get(name, ""))
    try:
        return read_values(model, value)
    except ValidationFailedError as error:
        raise PasskeyInvalidError from error
