"""Fields of request bodies, and validation against a model."""

from __future__ import annotations

import unicodedata
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from regsvc.accounts.address import Address, AddressError, parse_address, to_address
from regsvc.errors import FieldError, ValidationFailedError

Model = TypeVar("Model", bound=BaseModel)


_WORDS = {
    "missing": "missing",
    "extra_forbidden": "unknown_field",
    "string_too_short": "too_short",
    "string_too_long": "too_long",
    "string_unicode": "invalid_unicode",
}


class Body(BaseModel):
    """A request body. Types are not converted, unknown fields are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


def _check_address(text: str) -> str:
    try:
        return parse_address(text).email
    except AddressError as error:
        raise PydanticCustomError("invalid_address", "{reason}", {"reason": str(error)}) from error


def _check_name(text: str) -> str:
    if any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in text):
        raise PydanticCustomError("invalid_characters", "A name has no control characters.")
    if not text.strip():
        raise PydanticCustomError("too_short", "A name has at least one character that can be seen.")
    return text.strip()


EmailText = Annotated[
    str,
    StringConstraints(max_length=320),
    Field(json_schema_extra={"format": "idn-email"}, examples=["ann@example.com"]),
    AfterValidator(_check_address),
]


NameText = Annotated[
    str, StringConstraints(min_length=1, max_length=200), Field(examples=["Ann"]), AfterValidator(_check_name)
]


SearchText = Annotated[str, StringConstraints(min_length=1, max_length=320), AfterValidator(_check_name)]


PasswordText = Annotated[str, StringConstraints(max_length=4096), Field(examples=["correct horse battery"])]


TokenText = Annotated[str, StringConstraints(max_length=512)]


def address_of(text: str) -> Address:
    """Return the address of a field that was validated as one."""
    return to_address(text)


def check_values(model: type[Model], value: object) -> Model:
    """Validate values against a model and return them as one.

    Raises:
        ValidationFailedError: they are not.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ValidationFailedError(fields=list_field_errors(error, "/")) from None


_OWN = {"invalid_address", "invalid_characters", "too_short"}


def list_field_errors(error: ValidationError, mark: str) -> list[FieldError]:
    """Return what is wrong with each field, with a mark before its name."""
    return [
        FieldError(
            pointer="".join(
                f"{mark}{str(part).replace('~', '~0').replace('/', '~1')}" for part in item["loc"]
            )[:200],
            code=_WORDS.get(item["type"], item["type"] if item["type"] in _OWN else "invalid"),
            detail=item["msg"],
        )
        for item in error.errors(include_url=False, include_input=False, include_context=False)[:20]
    ]
