"""`regsvc mail preview`: show every kind of mail in every language, with the configured brand and templates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, assert_never

import click

from regsvc.commands.runner import configure_logs, print_json, run_command
from regsvc.config import loading
from regsvc.mail.maildir_reader import ReadMail, parse_mail
from regsvc.mail.message.render import make_renderer
from regsvc.mail.message.samples import Sample, make_samples, render_samples

Form = Literal["text", "html", "source"]

# A preview contains no secret and is not sent.
_DEFAULTS = {
    "secret_key": "a preview is not signed with any secret",
    "smtp_url": "maildir:preview",
    "mail_from": "no-reply@localhost",
}


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
        renderer = make_renderer(chosen)
        wanted = list(render_samples(renderer, chosen.public_url, kind=kind, language=language))
        if not wanted:
            kinds = ", ".join(mail.kind for mail in make_samples(chosen.public_url))
            languages = ", ".join(renderer.languages)
            raise click.ClickException(f"No such mail. Kinds are {kinds}, each in {languages}.")
        if machine:
            print_json([_describe(sample) for sample in wanted])
            return
        for sample in wanted:
            mail = _read(sample)
            if len(wanted) > 1:
                click.echo(f"--- {sample.kind} {sample.language}: {mail.header('Subject')}\n")
            match form:
                case "text":
                    click.echo(mail.text)
                case "html":
                    click.echo(mail.html)
                case "source":
                    click.echo(sample.source, nl=False)
                case _:
                    assert_never(form)

    run_command(run)


def _read(sample: Sample) -> ReadMail:
    return parse_mail(sample.source, name=sample.kind, at=datetime.now(UTC))


def _describe(sample: Sample) -> dict[str, str]:
    mail = _read(sample)
    return {
        "kind": sample.kind,
        "language": sample.language,
        "subject": mail.header("Subject"),
        "text": mail.text,
        "html": mail.html,
        "source": mail.source,
    }
