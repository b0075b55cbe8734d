"""Declare what a handler accepts, returns and raises; the OpenAPI document is generated from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from pydantic import BaseModel
from quart_schema import document

from regsvc.errors import RegsvcError, ValidationFailedError
from regsvc.http.response.errors import UnsupportedMediaTypeError
from regsvc.security.keys import AccessTokenInvalidError, SealError

Handler = TypeVar("Handler", bound=Callable[..., Any])

_ATTRIBUTE = "_regsvc_description"


@dataclass(frozen=True)
class Parameter:
    """Something that a call reads beside its path and body.

    Args:
        name: of the header or of the query's parameter.
        description: what it is for.
        where: it stands.
        required: whether the call needs it.
        schema: what it may be (JSON Schema).
    """

    name: str
    description: str
    where: Literal["header", "query"] = "header"
    required: bool = False
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True)
class Description:
    """What quart-schema has no words for.

    Args:
        parameters: that the call reads.
        headers: of what it answers, each with what it means.
        errors: our own that it raises.
        takes_body: the body may be too large.
        needs_token: the call needs an access token.
    """

    parameters: Sequence[Parameter]
    headers: Mapping[str, str]
    errors: Sequence[type[RegsvcError]]
    takes_body: bool
    needs_token: bool


def documented(
    replies: Mapping[int, type],
    *,
    body: type[BaseModel] | None = None,
    parameters: Sequence[Parameter] = (),
    query: type[BaseModel] | None = None,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[type[RegsvcError]] = (),
    needs_token: bool = False,
) -> Callable[[Handler], Handler]:
    """Describe a call, and leave it as it is.

    Args:
        replies: by status, what the body looks like: a TypedDict.
        body: what it takes; brings along the problems of every body.
        parameters: that it reads.
        query: what its query is validated by, which says what each parameter may be.
        headers: of the replies, those that matter, each with what it means.
        errors: our own that it raises; status and code follow from the table of problems.
        needs_token: the call needs an access token; brings along 401, and 503 without keys to verify it with.
    """
    known = list(errors)
    if body is not None:
        known += [ValidationFailedError, UnsupportedMediaTypeError]
    if needs_token:
        known += [AccessTokenInvalidError, SealError]
    description = Description(
        parameters=tuple(parameters if query is None else _type_parameters(parameters, query)),
        headers=headers or {},
        errors=tuple(known),
        takes_body=body is not None,
        needs_token=needs_token,
    )
    describe: Callable[[Handler], Handler] = document(
        request=body, responses={status: (reply, None) for status, reply in replies.items()}
    )

    def decorate(handler: Handler) -> Handler:
        setattr(handler, _ATTRIBUTE, description)
        return describe(handler)

    return decorate


def _type_parameters(parameters: Sequence[Parameter], query: type[BaseModel]) -> Iterator[Parameter]:
    """Give parameters the schemas of the fields that read them."""
    fields = query.model_json_schema(mode="validation")["properties"]
    for parameter in parameters:
        choices = fields[parameter.name].get("anyOf", [fields[parameter.name]])
        schema = {**next(choice for choice in choices if choice.get("type") != "null")}
        # What is taken apart further, such as a cursor, is text to a client.
        schema = {"type": "string"} if "$ref" in schema else schema
        if (default := fields[parameter.name].get("default")) is not None:
            schema["default"] = default
        schema.pop("title", None)
        yield replace(parameter, schema=schema)


def description_of(handler: object) -> Description | None:
    """Return what a handler declares; None if it is not documented."""
    found = getattr(handler, _ATTRIBUTE, None)
    return found if isinstance(found, Description) else None
