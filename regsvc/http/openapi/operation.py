"""Declare what a handler accepts, returns and raises; the OpenAPI document is generated from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from pydantic import BaseModel
from quart_schema import document

from regsvc.accounts.cursor import MAX_PAGE
from regsvc.accounts.service_tokens.service_token import Scope
from regsvc.errors import DatabaseUnavailableError, RegsvcError, ValidationFailedError
from regsvc.http.response.errors import ForbiddenError, InsufficientScopeError, UnsupportedMediaTypeError
from regsvc.schemas.fields import PAGE
from regsvc.security.challenge import ChallengeNeededError
from regsvc.security.signing.access_token import AccessTokenInvalidError, SealError

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


SOLUTION_HEADER = "Regsvc-Solution"
_SOLUTION = Parameter(SOLUTION_HEADER, "The solution of a challenge, as ALTCHA's clients write it.")


def paged(usual: int = PAGE) -> list[Parameter]:
    """Return the query's parameters of a list in pages.

    Args:
        usual: rows of a page by default.
    """
    return [
        Parameter("cursor", "The `next_cursor` of the page before.", where="query"),
        Parameter("limit", f"How many, 1 to {MAX_PAGE}; {usual} if not given.", where="query"),
    ]


@dataclass(frozen=True)
class Description:
    """What quart-schema has no words for.

    Args:
        parameters: that the call reads.
        headers: of what it answers, each with what it means.
        errors: our own that it raises.
        takes_body: the body may be too large.
        needs_token: the call needs an access token.
        scope: that opens the call to a service token; None for calls that no service token may make.
    """

    parameters: Sequence[Parameter]
    headers: Mapping[str, str]
    errors: Sequence[type[RegsvcError]]
    takes_body: bool
    needs_token: bool
    scope: Scope | None = None


def documented(
    replies: Mapping[int, type],
    *,
    body: type[BaseModel] | None = None,
    parameters: Sequence[Parameter] = (),
    query: type[BaseModel] | None = None,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[type[RegsvcError]] = (),
    needs_token: bool = False,
    needs_admin: bool = False,
    scope: Scope | None = None,
    needs_database: bool = True,
) -> Callable[[Handler], Handler]:
    """Describe a call; the handler itself stays as it is.

    Every call has the errors of its body, its query, its token and the database by default, so that a handler lists
    only its own.

    Args:
        replies: by status, the body of the answer: a TypedDict.
        body: the model of the request's body; adds the errors of every body.
        parameters: what the call reads beside path and body.
        query: the model of the query, which gives each parameter its schema; adds `validation_failed`.
        headers: of the answers, those that matter, each with its meaning.
        errors: that this call raises beside the defaults; status and code follow from the table of problems.
        needs_token: an access token is required; adds 401, and 503 without keys to verify it with.
        needs_admin: the token's user must be an administrator; adds 403.
        scope: that opens the call to services, with a service token; adds 403.
        needs_database: the call asks the database; adds 503.
    """
    known = list(errors)
    if needs_admin:
        known.append(ForbiddenError)
    if scope is not None:
        known.append(InsufficientScopeError)
    if needs_database:
        known.append(DatabaseUnavailableError)
    if body is not None:
        known += [ValidationFailedError, UnsupportedMediaTypeError]
    elif query is not None:
        known.append(ValidationFailedError)
    if needs_token or needs_admin or scope is not None:
        known += [AccessTokenInvalidError, SealError]
    taken = list(parameters if query is None else _type_parameters(parameters, query))
    if ChallengeNeededError in known:
        taken.append(_SOLUTION)
    description = Description(
        parameters=tuple(taken),
        headers=headers or {},
        errors=tuple(known),
        takes_body=body is not None,
        needs_token=needs_token or needs_admin,
        scope=scope,
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
        for told in ("title", "description", "examples"):  # of the field, where the parameter has its own
            schema.pop(told, None)
        yield replace(parameter, schema=schema)


def description_of(handler: object) -> Description | None:
    """Return what a handler declares; None if it is not documented."""
    found = getattr(handler, _ATTRIBUTE, None)
    return found if isinstance(found, Description) else None
