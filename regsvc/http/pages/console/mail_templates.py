"""The console's look at the mails that there are: every kind in every language, with the brand that is set."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address

from quart import Response, request
from werkzeug.exceptions import NotFound

from regsvc.http.context import get_context
from regsvc.http.pages.console.overview import get_operator, show_console
from regsvc.http.pages.dev_mailbox import frame
from regsvc.http.pages.page import blueprint
from regsvc.mail.maildir_reader import ReadMail, parse_mail
from regsvc.mail.message.languages import FALLBACK
from regsvc.mail.message.render import make_renderer
from regsvc.mail.message.samples import make_samples, render_samples

_NOBODY = Address(addr_spec="no-reply@example.com")  # of a process that sends nothing itself


@dataclass(frozen=True)
class _Sample:
    kinds: list[str]
    languages: tuple[str, ...]
    kind: str
    language: str
    mail: ReadMail


@blueprint.get("/admin/templates")
async def open_templates() -> Response:
    """Show a kind of mail in a language, by default the first in English."""
    await get_operator()
    sample = _make_sample(request.args.get("kind", ""), request.args.get("language", ""))
    return await show_console("console_templates.html", frames=True, sample=sample)


@blueprint.get("/admin/templates/<kind>")
async def show_template(kind: str) -> Response:
    """Serve the HTML of a kind of mail by itself, for the frame that shows it."""
    await get_operator()
    sample = _make_sample(kind, request.args.get("language", ""))
    if sample.kind != kind:
        raise NotFound
    return frame(sample.mail.html)


def _make_sample(kind: str, language: str) -> _Sample:
    """Return a mail of a kind in a language; for an unknown kind or language, the first kind or English."""
    settings = get_context().settings
    kinds = [mail.kind for mail in make_samples(settings.public_url)]
    renderer = make_renderer(settings, sender=_NOBODY if settings.mail_from.addr_spec == "<>" else None)
    chosen = kind if kind in kinds else kinds[0]
    known = language if language in renderer.languages else FALLBACK
    (sample,) = render_samples(renderer, settings.public_url, kind=chosen, language=known)
    mail = parse_mail(sample.source, name=chosen, at=datetime.now(UTC))
    return _Sample(kinds, renderer.languages, chosen, known, mail)
