"""The description of the API in OpenAPI 3.1, made of its routes, their models and the one table of problems.

Websockets and pages are no part of it: OpenAPI has no words for the former, and the latter are for people.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Annotated, Any, NotRequired

from pydantic import Field, TypeAdapter
from quart import Quart, Response
from quart_schema import HttpSecurityScheme, Info, OpenAPIProvider, QuartSchema, Server
from quart_schema.conversion import PYDANTIC_REF_TEMPLATE
from werkzeug.routing import BaseConverter, Rule

from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.errors import FieldError, RegsvcError
from regsvc.http.openapi.operation import Description, Parameter, description_of
from regsvc.http.response.prepared import PreparedAnswer
from regsvc.http.response.problems import MEDIA_TYPE, STATUSES
from regsvc.http.server.refusals import PROBLEMS
from regsvc.http.websocket_limits import TooManyWaitingError
from regsvc.schemas.formats import Nothing, Text, Timestamp
from regsvc.schemas.signup.policy import ChallengeShown, TermsShown
from regsvc.schemas.typed_dict import TypedDict

PATH = "/openapi.json"

_ABOUT = """\
Every error is `application/problem+json` (RFC 9457) with a stable `code`, and every answer has an `X-Request-Id`.
Answers of 429 and 503 say in `Retry-After` how many seconds to wait. `HEAD` is answered wherever `GET` is.
Where requests are limited, `RateLimit-Policy` and `RateLimit` say how a client stands.

A registration's status is told live, too, over the websocket `/api/v1/registrations/{registration_id}/live`.\
"""

_TOKEN = "access_token"  # noqa: S105 - the name of a scheme
SERVICE_TOKEN = "service_token"  # noqa: S105 - likewise
# What the server may answer to any request; what it answers to odd ones is `default`.
_ANY_REQUEST = frozenset({400, 408, 431, 500, 503})
_BODY_TOO_LARGE = 413

_HEADERS: dict[int | None, dict[str, str]] = {
    401: {"WWW-Authenticate": "`Bearer`, and what is wrong with a token (RFC 6750)."},
    429: {"Retry-After": "Seconds to wait."},
    503: {"Retry-After": "Seconds to wait."},
}
_REQUEST_ID = "X-Request-Id"
_LIMITS = {  # by draft-ietf-httpapi-ratelimit-headers
    "RateLimit-Policy": 'The limits that counted the request: `"name";q=quota;w=seconds`, commas between.',
    "RateLimit": 'How they stand: `"name";r=remaining;t=seconds until all of it is there again`.',
}
_TAGS = {
    "register": "registrations",
    "confirm-email": "confirmation",
    "login": "sessions",
    "logout": "sessions",
    "token": "sessions",
    "password": "passwords",
    "me": "account",
}
_PROBLEM = {"$ref": "#/components/schemas/Problem"}


class Problem(TypedDict):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: NotRequired[str]
    code: str
    error: str
    request_id: str
    errors: NotRequired[list[FieldError]]
    next_resend_at: NotRequired[Annotated[Timestamp, Field(description="Of `too_soon`.")]]
    challenge: NotRequired[Annotated[ChallengeShown, Field(description="Of `challenge_needed`.")]]
    terms: NotRequired[Annotated[TermsShown, Field(description="Of `terms_needed`.")]]
    mfa_token: NotRequired[Annotated[str, Field(description="Of `second_factor_required`.")]]
    methods: NotRequired[Annotated[list[str], Field(description="By what one may go on.")]]


def describe(app: Quart, *, public_url: str) -> Callable[[], dict[str, Any]]:
    """Serve the description of an application's calls, once all of them are registered.

    Args:
        app: whose handlers say with `documented` what they do.
        public_url: where clients reach it.

    Returns:
        What returns the description.
    """
    extension = QuartSchema(
        app,
        openapi_path=None,  # nor pages about it: quart-schema's load their scripts from elsewhere
        info=Info(
            title="regsvc",
            version=version("regsvc"),
            summary="Registration, login and e-mail confirmation",
            description=_ABOUT,
        ),
        servers=[Server(public_url)],
        security_schemes={
            _TOKEN: HttpSecurityScheme("bearer", bearer_format="JWT"),
            SERVICE_TOKEN: HttpSecurityScheme("bearer", bearer_format="rgs_…"),
        },
        openapi_provider_class=_Provider,
    )

    @cache
    def document() -> dict[str, Any]:
        return extension.openapi_provider.schema()

    @cache
    def prepare() -> PreparedAnswer:
        headers = {"Content-Type": "application/json", "Cache-Control": "public, max-age=600"}
        return PreparedAnswer(json.dumps(document(), ensure_ascii=False).encode(), headers)

    async def show() -> Response:
        return prepare().respond()

    app.add_url_rule(PATH, "openapi", show)
    return document


class _Provider(OpenAPIProvider):
    """quart-schema's, with what it leaves out or puts elsewhere than OpenAPI 3.1 does (as of 0.25.0)."""

    def schema(self) -> dict[str, Any]:
        whole = super().schema()
        problem = TypeAdapter(Problem).json_schema(ref_template=PYDANTIC_REF_TEMPLATE)
        components = whole["components"]
        components["schemas"] |= problem.pop("$defs") | {"Problem": problem}
        whole["info"]["license"] = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
        tags = {
            tag
            for operations in whole["paths"].values()
            for operation in operations.values()
            for tag in operation["tags"]
        }
        whole["tags"] = [{"name": tag} for tag in sorted(tags)]
        components["headers"] = {
            _REQUEST_ID: _header("By which the log knows the request."),
            **{name: _header(text, required=False) for name, text in _LIMITS.items()},
        }
        components["responses"] = {
            code: _problem(status, {code: detail})
            for status, (code, detail) in PROBLEMS.items()
            if status in {*_ANY_REQUEST, _BODY_TOO_LARGE}
        } | {"problem": _problem(None, {})}
        return whole

    def generate_rules(self) -> Iterable[Rule]:
        for rule in super().generate_rules():
            if description_of(self._app.view_functions[rule.endpoint]) is not None:
                yield rule

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        paths, components = super().build_paths(rule)
        call = description_of(self._app.view_functions[rule.endpoint])
        assert call is not None  # noqa: S101 - see generate_rules
        for operation in (operation for operations in paths.values() for operation in operations.values()):
            operation["description"] = operation["description"].strip() or operation["summary"]
            operation["parameters"] = operation["parameters"] + [_parameter(it) for it in call.parameters]
            replies = {}
            for status, reply in operation["responses"].items():
                replies[str(status)] = reply
                reply["headers"] = _headers({**call.headers, **_HEADERS.get(status, {})})
                if status in _ANY_REQUEST:
                    reply["content"][MEDIA_TYPE] = {"schema": _PROBLEM}
            operation["responses"] = dict(sorted((_list_problems(call) | replies).items()))
            if RateLimitedError in call.errors:
                for reply in operation["responses"].values():
                    if "headers" in reply:
                        reply["headers"] |= {
                            name: {"$ref": f"#/components/headers/{name}"} for name in _LIMITS
                        }
            operation["security"] = [{_TOKEN: []}] if call.needs_token else []
            if call.scope is not None:
                operation["security"].append({SERVICE_TOKEN: [call.scope]})
            operation["tags"] = [_name_tag(rule)]
        return paths, components

    def build_path_parameter(self, name: str, converter: BaseConverter) -> dict[str, Any]:
        parameter = super().build_path_parameter(name, converter)
        if name.endswith("_id"):
            parameter["schema"]["format"] = "uuid"
        return parameter

    def build_request_body(self, model: Any, source: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        body, components = super().build_request_body(model, source)
        return {"required": True, **_name_schemas(body, components)}, components

    def build_response_object(self, model: Any, headers_model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        reply, components = super().build_response_object(model, headers_model)
        if model is Nothing:
            del reply["content"]
        elif model is Text:
            reply["content"] = {"text/plain": {"schema": {"type": "string"}}}
        else:
            _name_schemas(reply, components)
        return reply, components

    def operation_id(self, method: str, path: str, func: object) -> str:  # noqa: ARG002 - the library's signature
        """Return a name that changes with the call alone, not with ours for its handler."""
        return "_".join([method.lower(), *re.findall("[a-z]+", path.removeprefix("/api/v1"))])


def _name_tag(rule: Rule) -> str:
    """Return the part of the API that a call belongs to: generators of clients make a module of it."""
    parts = rule.rule.removeprefix("/api/v1").strip("/").split("/")
    if parts[0] == "admin" or rule.rule == "/api/v1/users":
        return "admin"
    return _TAGS.get(parts[0], "operations" if not rule.rule.startswith("/api/") else parts[0])


def _list_problems(call: Description) -> dict[str, dict[str, Any]]:
    """Return the problems that a call may answer, by status."""
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for error in call.errors:
        found[STATUSES[error]][error.code] = _describe(error)
    if STATUSES[TooManyWaitingError] in found:  # elsewhere it is any other problem
        found[STATUSES[TooManyWaitingError]][TooManyWaitingError.code] = _describe(TooManyWaitingError)
    problems: dict[str, dict[str, Any]] = {"default": {"$ref": "#/components/responses/problem"}}
    for status in _ANY_REQUEST | ({_BODY_TOO_LARGE} if call.takes_body else set()):
        code, detail = PROBLEMS[status]
        if status in found:
            found[status][code] = detail
        else:
            problems[str(status)] = {"$ref": f"#/components/responses/{code}"}
    return problems | {str(status): _problem(status, codes) for status, codes in found.items()}


def _describe(error: type[RegsvcError]) -> str:
    return " ".join((error.__doc__ or "").partition("\n")[0].split())


def _problem(status: int | None, codes: dict[str, str]) -> dict[str, Any]:
    """Return a problem as an answer.

    Args:
        status: None for any other.
        codes: the codes it may have, each with what it means.
    """
    schema: dict[str, Any] = _PROBLEM
    if status is not None:
        # Beside the reference (JSON Schema 2020-12): generators of clients make nothing of an `allOf`.
        schema = {**schema, "properties": {"status": {"const": status}, "code": {"enum": list(codes)}}}
    return {
        "description": "\n".join(f"- `{code}`: {detail}" for code, detail in codes.items())
        or "Any other problem.",
        "headers": _headers(_HEADERS.get(status, {})),
        "content": {MEDIA_TYPE: {"schema": schema}},
    }


def _header(description: str, *, required: bool = True) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": {"type": "string"}}


def _headers(described: Mapping[str, str]) -> dict[str, Any]:
    """Return the headers of an answer: these, and what every answer has."""
    every = {_REQUEST_ID: {"$ref": f"#/components/headers/{_REQUEST_ID}"}}
    return {name: _header(text) for name, text in described.items()} | every


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required,
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }


def _name_schemas(message: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """Move the schema of a body among the components, where generators of clients take its name from."""
    for media in message["content"].values():
        schema = media["schema"]
        components[schema["title"]] = schema
        media["schema"] = {"$ref": PYDANTIC_REF_TEMPLATE.format(model=schema["title"])}
    return message
