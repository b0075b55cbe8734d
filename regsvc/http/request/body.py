"""Reading a request's body, strict JSON first, then the model of the call; and its query.

What two parsers could read differently is refused: duplicate keys, NaN, numbers beyond any use, lone surrogates
(RFC 8259 section 4, 8.2, 9; RFC 7493). Nothing of a body is ever logged.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn
from urllib.parse import parse_qsl
from uuid import UUID

from pydantic import ValidationError
from quart import request

from regsvc.errors import RegsvcError, ValidationFailedError
from regsvc.http.context import get_context
from regsvc.http.response.errors import ContentCodingError, UnsupportedMediaTypeError
from regsvc.schemas.fields import Model, check_values, list_field_errors

MAX_DEPTH = 32
_MAX_NUMBER = 32  # characters


def read_id(text: str, missing: type[RegsvcError]) -> UUID:
    """Return an id of a path; what can be none is raised as what is not there."""
    try:
        return UUID(text)
    except ValueError:
        raise missing from None


async def read_body(model: type[Model], *, optional: bool = False) -> Model:
    """Return the current request's body as what the call takes.

    Args:
        model: what it takes.
        optional: no body is an empty one, and needs no content type.

    Raises:
        ContentCodingError: it is compressed.
        UnsupportedMediaTypeError: it is not sent as JSON.
        ValidationFailedError: it is not JSON, or not what the call takes.
    """
    check_content_coding()
    if optional and "Content-Type" not in request.headers and not await request.get_data():
        return read_values(model, {})
    if request.mimetype != "application/json" or request.mimetype_params.get(
        "charset", "utf-8"
    ).lower() not in {
        "utf-8",
        "utf8",
    }:
        raise UnsupportedMediaTypeError
    raw = await request.get_data(cache=False, as_text=False)
    return read_values(model, _parse(raw if isinstance(raw, bytes) else raw.encode()))


async def read_pairs(most: int) -> list[tuple[str, str]]:
    """Return the fields of the current request's form, in their order.

    Args:
        most: number of fields.

    Raises:
        ValidationFailedError: it has more.
    """
    raw = await request.get_data(cache=False, as_text=False)
    text = (raw if isinstance(raw, bytes) else raw.encode()).decode("utf-8", "replace")
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=most)
    except ValueError:
        raise ValidationFailedError("The form has too many fields.") from None


def read_values(model: type[Model], value: object) -> Model:
    """Return values, such as those of a form, as what the call takes.

    Raises:
        ValidationFailedError: they are not.
    """
    return check_values(model, value, get_context().settings.local_domains)


def read_query(model: type[Model]) -> Model:
    """Return the current request's query parameters as what the call takes.

    Raises:
        ValidationFailedError: they are not; its pointers are `?` and the parameter's name.
    """
    given = {name: values if len(values) > 1 else values[0] for name, values in request.args.lists()}
    try:
        return model.model_validate(
            given, strict=False, context={"local_domains": get_context().settings.local_domains}
        )
    except ValidationError as error:
        raise ValidationFailedError(fields=list_field_errors(error, "?")) from None


def check_content_coding() -> None:
    """Refuse a compressed body: a few bytes of it could become any number.

    Raises:
        ContentCodingError: it is compressed, or says so.
    """
    codings = ",".join(request.headers.getlist("Content-Encoding")).lower().split(",")
    if {coding.strip() for coding in codings} - {"", "identity"}:
        raise ContentCodingError


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
