"""Fields of request bodies, and validation against a model."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from regsvc.accounts.address import MAX_TYPED, Address, AddressError, parse_address, to_address
from regsvc.accounts.cursor import MAX_PAGE, Position
from regsvc.accounts.name import MAX_LENGTH, NameInvalidError, check_line, check_name
from regsvc.errors import FieldError, ValidationFailedError

Model = TypeVar("Model", bound=BaseModel)

PAGE = 50  # rows a page by default

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


def _check_address(text: str, info: ValidationInfo) -> str:
    local_domains = (info.context or {}).get("local_domains", ())
    try:
        return parse_address(text, local_domains).email
    except AddressError as error:
        raise PydanticCustomError("invalid_address", "{reason}", {"reason": str(error)}) from error


def _check_with(check: Callable[[str], str]) -> AfterValidator:
    def validate(text: str) -> str:
        try:
            return check(text)
        except NameInvalidError as error:
            raise PydanticCustomError(error.code, "{reason}", {"reason": str(error)}) from error

    return AfterValidator(validate)


Cursor = Annotated[Position, BeforeValidator(Position.decode)]
NumberCursor = Annotated[int, Field(ge=1, le=2**63 - 1)]  # what a bigint can be
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE)]

EmailText = Annotated[
    str,
    StringConstraints(max_length=MAX_TYPED),
    Field(
        json_schema_extra={"format": "idn-email"},
        description="One address with a domain name, up to 254 bytes; no display name, quotes, comments or IP literal.",
        examples=["ann@example.com"],
    ),
    AfterValidator(_check_address),
]


NameText = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_LENGTH),
    Field(description="No control characters.", examples=["Ann"]),
    _check_with(check_name),
]


SearchText = Annotated[str, StringConstraints(min_length=1, max_length=320), _check_with(check_line)]


PasswordText = Annotated[str, StringConstraints(max_length=4096), Field(examples=["correct horse battery"])]


NewPasswordText = Annotated[
    str,
    StringConstraints(max_length=4096),
    Field(
        description="8 to 128 characters, or what the operator's policy says; neither the address nor the name.",
        examples=["correct horse battery"],
    ),
]


TokenText = Annotated[str, StringConstraints(max_length=512)]


def address_of(text: str) -> Address:
    """Return the address of a field that was validated as one."""
    return to_address(text)


def check_values(model: type[Model], value: object, local_domains: Collection[str] = ()) -> Model:
    """Validate values against a model and return them as one.

    Args:
        model: The model.
        value: The values.
        local_domains: Domains of addresses that are taken although they are no public names.

    Raises:
        ValidationFailedError: they are not.
    """
    try:
        return model.model_validate(value, context={"local_domains": local_domains})
    except ValidationError as error:
        raise ValidationFailedError(fields=list_field_errors(error, "/")) from None


_OWN = {"invalid_address", "invalid_characters", "too_long", "too_short"}


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
