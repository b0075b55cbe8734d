"""The calls in docs/api.md, generated from the API's description. `make docs` writes them there."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import trio

from regsvc.http.pages.api_reference import Call, Reply, Row, list_calls, list_shapes
from tests.suite.application import open_application

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
BEGIN = "<!-- generated: calls -->"
END = "<!-- end -->"

SECTIONS = {
    "Sign-up": ("/api/v1/register", "/api/v1/registrations", "/api/v1/confirm-email/resend"),
    "Confirming": ("/api/v1/confirm-email",),
    "Sessions": ("/api/v1/login", "/api/v1/token", "/api/v1/logout", "/api/v1/sessions"),
    "Passwords": ("/api/v1/me/password", "/api/v1/password"),
    "Email change": ("/api/v1/me/email",),
    "Account": ("/api/v1/me",),
    "Users, for administrators": ("/api/v1/admin/users", "/api/v1/users"),
    "Registrations, for administrators": ("/api/v1/admin/registrations",),
    "Webhooks": ("/api/v1/admin/webhooks",),
    "Invitations": ("/api/v1/invitations", "/api/v1/admin/invitations"),
    "Mails, for administrators": ("/api/v1/admin/mails",),
    "Signing keys, for administrators": ("/api/v1/admin/keys",),
    "Audit log, for administrators": ("/api/v1/admin/audit",),
    "The process, for administrators": ("/api/v1/admin/supervisor",),
    "Tokens, for other services": (
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/.well-known/jwks.json",
        "/oauth",
        "/userinfo",
    ),
    "For machines and operators": ("/",),
}
"""Headings, each with what the paths of its calls begin with; the longest beginning counts."""

Shapes = Mapping[str, Sequence[Row]]


def write_calls(document: Mapping[str, Any]) -> str:
    """Return the calls of a description as Markdown.

    Args:
        document: OpenAPI 3.1, as `/openapi.json` serves it.
    """
    shapes = {name: rows for name, _, rows in list_shapes(document)}
    calls = list(list_calls(document))
    always = document["components"]["responses"]
    told: set[str] = set()
    lines: list[str] = []
    for heading in SECTIONS:
        lines += [f"## {heading}", ""]
        for call in calls:
            if _find_section(call.path) == heading:
                lines += _write_call(call, shapes, told, always)
    return "\n".join(lines)


def replace_calls(page: str, calls: str) -> str:
    """Return the page with these calls between its two marks."""
    before, _, rest = page.partition(f"{BEGIN}\n")
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{calls}{END}{after}"


def _find_section(path: str) -> str:
    fits = [
        (len(start), heading)
        for heading, starts in SECTIONS.items()
        for start in starts
        if path.startswith(start)
    ]
    return max(fits)[1]


def _write_call(call: Call, shapes: Shapes, told: set[str], always: Collection[str]) -> Iterator[str]:
    yield from (f"### `{call.method} {call.path}`", "", call.summary, "")
    if call.about:
        yield from (call.about, "")
    if call.needs_token:
        yield from (
            "Needs an access token."
            if call.scope is None
            else f"Needs an administrator's access token, or a service token with the scope `{call.scope}`.",
            "",
        )
    elif call.scope is not None:
        yield from (f"Needs a service token with the scope `{call.scope}`.", "")
    rows = [
        Row(row.name, row.kind, row.about, row.required)
        for row in call.parameters
        if ", path" not in row.kind
    ]
    if call.takes is not None:
        rows += [
            Row(row.name, f"{row.kind}, body", row.about, row.required)
            for row in _list_fields(call.takes, shapes)
        ]
    yield from _write_table("request", rows, optional=True)
    for reply in call.replies:
        if not reply.problems:
            yield from _write_reply(reply, shapes, told)
    errors = "; ".join(_list_errors(call, always))
    yield from (f"Errors: {errors}.", "") if errors else ()


def _list_errors(call: Call, always: Collection[str]) -> Iterator[str]:
    """Yield status and codes of the errors that not every call has."""
    for reply in call.replies:
        codes = [f"`{code}`" for code, _ in reply.problems if code not in always]
        if codes:
            yield f"{reply.status} {', '.join(codes)}"


def _write_reply(reply: Reply, shapes: Shapes, told: set[str]) -> Iterator[str]:
    yield from (f"**{reply.status}** {reply.about.replace(chr(10), ' ')}", "")
    rows = [Row(row.name, "header", row.about) for row in reply.headers]
    if reply.shape in told:
        yield from (f"The body is `{reply.shape}`, as above.", "")
    elif reply.shape is not None:
        told.add(reply.shape)
        rows += _list_fields(reply.shape, shapes)
        yield from (f"The body is `{reply.shape}`:", "")
    yield from _write_table("answer", rows, optional=False)


def _list_fields(shape: str, shapes: Shapes, prefix: str = "") -> Iterator[Row]:
    """Yield the fields of a schema, those of the schemas in it after the field that holds them."""
    for row in shapes.get(shape, ()):
        yield Row(prefix + row.name, row.kind, row.about, row.required)
        inner = row.kind.removeprefix("list of ")
        if inner in shapes:
            mark = "[]." if inner != row.kind else "."
            yield from _list_fields(inner, shapes, f"{prefix}{row.name}{mark}")


def _write_table(title: str, rows: Sequence[Row], *, optional: bool) -> Iterator[str]:
    if not rows:
        return
    yield from (f"| {title} | type | |", "|---|---|---|")
    for row in rows:
        kind = row.kind.replace("|", r"\|")
        more = " (optional)" if optional and not row.required else ""
        yield f"| `{row.name}`{more} | {kind} | {row.about.replace(chr(10), ' ')} |"
    yield ""


async def read_description() -> dict[str, Any]:
    """Return the API's description as the application serves it."""
    async with open_application() as app:
        answer = await app.test_client().get("/openapi.json")
        found: dict[str, Any] = json.loads(await answer.get_data())
        return found


def main() -> None:
    """Write the calls into the page."""
    calls = write_calls(trio.run(read_description))
    PAGE.write_text(replace_calls(PAGE.read_text("utf-8"), calls), "utf-8")


if __name__ == "__main__":
    main()
