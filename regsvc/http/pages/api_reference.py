"""The page about the API at `/docs`: what `/openapi.json` says, for people, without a script and without a network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from quart import Quart, Response

from regsvc.http.pages.page import make_page
from regsvc.http.pages.texts import get_languages
from regsvc.http.response.prepared import PreparedAnswer
from regsvc.mail.message.languages import FALLBACK

PATH = "/docs"

Document = Mapping[str, Any]
_SCHEMAS = "#/components/schemas/"
_CODES = re.compile(r"^- `(\w+)`: (.*)$", re.MULTILINE)
_BOUNDS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "at least {}",
}


@dataclass(frozen=True)
class Row:
    """A field, a parameter or a header: what it is called, what it is, and what there is to say."""

    name: str
    kind: str
    about: str
    required: bool = False


@dataclass(frozen=True)
class Reply:
    """What may be answered.

    Args:
        status: of the answer.
        about: what it means; empty for problems.
        shape: the name of its body's schema, if it has one.
        problems: codes, each with what it means.
        headers: that it has.
    """

    status: str
    about: str
    shape: str | None
    problems: Sequence[tuple[str, str]]
    headers: Sequence[Row]


@dataclass(frozen=True)
class Call:
    """One call of the API."""

    name: str
    method: str
    path: str
    summary: str
    about: str
    needs_token: bool
    scope: str | None
    parameters: Sequence[Row]
    takes: str | None
    replies: Sequence[Reply]


def add_reference(app: Quart, document: Callable[[], Document]) -> None:
    """Serve the page.

    Args:
        app: whose page it is.
        document: returns the description, once every call is registered.
    """

    @cache
    def prepare() -> PreparedAnswer:
        known = document()
        html, headers = make_page(
            "reference.html",
            words=get_languages()[FALLBACK],  # what it tells is in English
            info=known["info"],
            calls=list(list_calls(known)),
            shapes=list(list_shapes(known)),
            always=[(code, reply["description"]) for code, reply in known["components"]["responses"].items()],
        )
        return PreparedAnswer(html.encode(), headers | {"Cache-Control": "no-cache"})

    async def show() -> Response:
        return prepare().respond()

    app.add_url_rule(PATH, "reference", show)


def list_calls(document: Document) -> Iterator[Call]:
    """Yield every call, in the order of the description."""
    for path, methods in document["paths"].items():
        for method, it in methods.items():
            body = it.get("requestBody", {"content": {}})
            yield Call(
                name=it["operationId"],
                method=method.upper(),
                path=path,
                summary=it["summary"],
                about=it["description"] if it["description"] != it["summary"] else "",
                needs_token={"access_token": []} in it.get("security", []),
                scope=next(
                    (each["service_token"][0] for each in it.get("security", []) if "service_token" in each),
                    None,
                ),
                parameters=[
                    Row(
                        each["name"],
                        f"{describe(each['schema'])}, {each['in']}",
                        each.get("description", ""),
                        each["required"],
                    )
                    for each in it["parameters"]
                ],
                takes=_find_shape(body["content"].values()),
                replies=[
                    _read_reply(status, reply)
                    for status, reply in it["responses"].items()
                    if "$ref" not in reply
                ],
            )


def list_shapes(document: Document) -> Iterator[tuple[str, str, Sequence[Row]]]:
    """Yield every schema: its name, what it is, and its fields."""
    for name, schema in sorted(document["components"]["schemas"].items()):
        required = schema.get("required", ())
        rows = [
            Row(field, describe(known), known.get("description", ""), field in required)
            for field, known in schema.get("properties", {}).items()
        ]
        yield name, schema.get("description", ""), rows


def describe(schema: Mapping[str, Any]) -> str:
    """Return in a few words what fits a schema."""
    words = "anything"
    match schema:
        case {"$ref": str(ref)}:
            words = ref.removeprefix(_SCHEMAS)
        case {"anyOf": choices} | {"oneOf": choices}:
            words = " or ".join(dict.fromkeys(describe(choice) for choice in choices))
        case {"const": value}:
            words = str(value)
        case {"enum": values}:
            words = " | ".join(map(str, values))
        case {"type": "array", "items": items}:
            words = f"list of {describe(items)}"
        case {"type": kind}:
            bounds = [text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema]
            words = ", ".join([schema.get("format", kind), *bounds])
    return words


def _read_reply(status: str, reply: Mapping[str, Any]) -> Reply:
    problems = _CODES.findall(reply["description"])
    return Reply(
        status=status,
        about="" if problems else reply["description"],
        shape=None if problems else _find_shape(reply.get("content", {}).values()),
        problems=problems,
        headers=[
            Row(name, describe(header["schema"]), header["description"])
            for name, header in reply.get("headers", {}).items()
            if "$ref" not in header
        ],
    )


def _find_shape(contents: Iterable[Mapping[str, Any]]) -> str | None:
    names = (content["schema"].get("$ref", "").removeprefix(_SCHEMAS) for content in contents)
    return next(filter(None, names), None)
