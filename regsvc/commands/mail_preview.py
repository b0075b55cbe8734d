"""`regsvc mail preview`: show every kind of mail in every language, with the configured brand and templates."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Literal, assert_never
from uuid import UUID

import click

from regsvc.commands.runner import configure_logs, print_json, run_command
from regsvc.config import loading
from regsvc.config.settings import Settings
from regsvc.mail.message.samples import make_samples
from regsvc.roles import make_renderer

Form = Literal["text", "html", "source"]

# A preview contains no secret and is not sent.
_DEFAULTS = {
    "secret_key": "a preview is not signed with any secret",
    "smtp_url": "maildir:preview",
    "mail_from": "no-reply@localhost",
}
_MAIL_ID = UUID(int=0)
_RECIPIENT = "ann@example.com"


@dataclass(frozen=True)
class Preview:
    """A mail of one kind in one language: its octets and its decoded content."""

    kind: str
    language: str
    source: bytes

    @property
    def message(self) -> EmailMessage:
        """The decoded mail."""
        return email.message_from_bytes(self.source, EmailMessage, policy=email.policy.default)

    def part(self, subtype: Literal["plain", "html"]) -> str:
        """Return the text of one of the alternatives."""
        found = self.message.get_body((subtype,))
        return "" if found is None else str(found.get_content()).replace("\r\n", "\n")


@click.command()
@click.option("--kind", help="Only mails of this kind.")
@click.option("--language", help="Only mails in this language.")
@click.option(
    "--as",
    "form",
    type=click.Choice(["text", "html", "source"]),
    default="text",
    show_default=True,
    help="The text, the HTML, or the whole source.",
)
@click.option("--json", "machine", is_flag=True, help="Print JSON: subject, text, HTML and source of each.")
def preview(kind: str | None, language: str | None, form: Form, *, machine: bool) -> None:
    """Show every kind of mail in every language, with the configured brand and templates.

    It needs no database, no mail server and no setting.
    """

    async def run() -> None:
        chosen = loading.load(mode="dev", defaults=_DEFAULTS)
        configure_logs(chosen)
        wanted = [it for it in _make(chosen) if kind in {None, it.kind} and language in {None, it.language}]
        if not wanted:
            made = list(_make(chosen))
            kinds = ", ".join(dict.fromkeys(it.kind for it in made))
            languages = ", ".join(dict.fromkeys(it.language for it in made))
            raise click.ClickException(f"No such mail. Kinds are {kinds}, each in {languages}.")
        if machine:
            print_json([_describe(it) for it in wanted])
            return
        for it in wanted:
            if len(wanted) > 1:
                click.echo(f"--- {it.kind} {it.language}: {it.message['Subject']}\n")
            _print(it, form)

    run_command(run)


def _make(chosen: Settings) -> Iterator[Preview]:
    renderer = make_renderer(chosen)
    for mail in make_samples(chosen.public_url):
        for language in renderer.languages:
            source = renderer.render(
                mail, mail_id=_MAIL_ID, recipient=_RECIPIENT, locale=language, now=datetime.now(UTC)
            )
            yield Preview(mail.kind, language, source)


def _print(it: Preview, form: Form) -> None:
    match form:
        case "text":
            click.echo(it.part("plain"))
        case "html":
            click.echo(it.part("html"))
        case "source":
            click.echo(it.source, nl=False)
        case _:
            assert_never(form)


def _describe(it: Preview) -> dict[str, str]:
    return {
        "kind": it.kind,
        "language": it.language,
        "subject": str(it.message["Subject"]),
        "text": it.part("plain"),
        "html": it.part("html"),
        "source": it.source.decode("utf-8", "replace"),
    }
