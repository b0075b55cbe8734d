"""Reading a request's body, strict JSON first, then the model of the call; and its query.

What two parsers could read differently is refused: duplicate keys, NaN, numbers beyond any use, lone surrogates
(RFC 8259 section 4, 8.2, 9; RFC 7493). Nothing of a body is ever logged.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Annotated, Any, NoReturn, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError
from quart import request

from regsvc.accounts.address import Address, AddressError, parse_address
from regsvc.errors import FieldError, RegsvcError, ValidationFailedError
from regsvc.http.response.errors import UnsupportedMediaTypeError

Model = TypeVar("Model", bound=BaseModel)

MAX_DEPTH = 32
_MAX_NUMBER = 32  # characters
_WORDS = {
    "missing": "missing",
    "extra_forbidden": "unknown_field",
    "string_too_short": "too_short",
    "string_too_long": "too_long",
    "string_unicode": "invalid_unicode",
}


class Body(BaseModel):
    """What a call takes. Types are not converted, unknown fields are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


def _check_address(text: str) -> str:
    try:
        parse_address(text)
    except AddressError as error:
        raise PydanticCustomError("invalid_address", "{reason}", {"reason": str(error)}) from error
    return text


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
    return parse_address(text)


def read_id(text: str, missing: type[RegsvcError]) -> UUID:
    """Return an id of a path; what can be none is raised as what is not there."""
    try:
        return UUID(text)
    except ValueError:
        raise missing from None


async def read_body(model: type[Model]) -> Model:
    """Return the current request's body as what the call takes.

    Raises:
        UnsupportedMediaTypeError: it is not sent as JSON.
        ValidationFailedError: it is not JSON, or not what the call takes.
    """
    if request.mimetype != "application/json" or request.mimetype_params.get(
        "charset", "utf-8"
    ).lower() not in {
        "utf-8",
        "utf8",
    }:
        raise UnsupportedMediaTypeError
    raw = await request.get_data(cache=False, as_text=False)
    return check_values(model, _parse(raw if isinstance(raw, bytes) else raw.encode()))


def check_values(model: type[Model], value: object) -> Model:
    """Return values as what the call takes.

    Raises:
        ValidationFailedError: they are not.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ValidationFailedError(fields=_list_fields(error, "/")) from None


def read_query(model: type[Model]) -> Model:
    """Return the current request's query parameters as what the call takes.

    Raises:
        ValidationFailedError: they are not; its pointers are `?` and the parameter's name.
    """
    given = {name: values if len(values) > 1 else values[0] for name, values in request.args.lists()}
    try:
        return model.model_validate(given, strict=False)
    except ValidationError as error:
        raise ValidationFailedError(fields=_list_fields(error, "?")) from None


_OWN = {"invalid_address", "invalid_characters", "too_short"}


def _list_fields(error: ValidationError, mark: str) -> list[FieldError]:
    """Say what is wrong with each field, where a mark stands before its name."""
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


def _parse(raw: bytes) -> object:
    if not raw:
        raise ValidationFailedError("The body is missing.")
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_number(int),
            parse_float=_number(float),
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError:
        raise ValidationFailedError("The body is not UTF-8.") from None
    except RecursionError:
        raise ValidationFailedError("The body is nested too deeply.") from None
    except ValueError as error:
        text = str(error) if isinstance(error, _StrictnessError) else "The body is not JSON."
        raise ValidationFailedError(text) from None
    if not isinstance(value, dict):
        raise ValidationFailedError("The body has to be a JSON object.")
    _check_text(value, MAX_DEPTH)
    return value


class _StrictnessError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _StrictnessError("The body has the same key twice in one object.")
    return found


def _number(convert: type[int | float]) -> Any:
    def read(text: str) -> int | float:
        if len(text) > _MAX_NUMBER:
            raise _StrictnessError("The body has a number that is too long.")
        return convert(text)

    return read


def _refuse_constant(text: str) -> NoReturn:
    raise _StrictnessError(f"The body has {text}, which is not JSON.")


def _check_text(value: object, depth: int) -> None:
    if depth == 0:
        raise ValidationFailedError("The body is nested too deeply.")
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise ValidationFailedError("The body has half a character (a lone surrogate).") from None
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key, depth)
            _check_text(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check_text(item, depth - 1)
