"""The mailbox of `regsvc dev`: every mail that was sent, live.

It exists in `dev` alone and shows links and codes, so it answers this machine only, and by its own names only: a page
elsewhere cannot have its own name lead here.
"""

from __future__ import annotations

import re
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import trio
from quart import Response, request
from werkzeug.exceptions import NotFound

from regsvc.config.mail_url import MaildirFolder, parse_mail_urls
from regsvc.http.context import get_context
from regsvc.http.pages.page import blueprint, only_in_dev, show_page
from regsvc.http.pages.texts import get_languages
from regsvc.http.request.client import is_local
from regsvc.http.response.json_response import empty
from regsvc.mail.maildir_reader import NoSuchMailError, ReadMail, list_mails, read_mail, see_version
from regsvc.mail.message.languages import FALLBACK

View = Literal["html", "text", "headers", "source"]

_LOOK = 0.25  # seconds between two looks into the folder
_WAIT = 25.0  # seconds that a browser waits for news at a time
# A mail's own HTML: its inline styles, pictures, and links that open elsewhere; no script, no form, no origin.
_MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data: http: https:; form-action 'none'; "
    "frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox"
)


@blueprint.get("/dev/mail")
async def open_mailbox() -> Response:
    """Show the mailbox, with the newest mail open."""
    maildir = _find_maildir()
    mails = await trio.to_thread.run_sync(list_mails, maildir) if maildir else []
    return await _show(maildir, mails, mails[0] if mails else None)


@blueprint.get("/dev/mail/<name>")
async def open_mail(name: str) -> Response:
    """Show the mailbox, with one mail open."""
    maildir, mail = await _find(name)
    return await _show(maildir, await trio.to_thread.run_sync(list_mails, maildir), mail)


@blueprint.get("/dev/mail/<name>/html")
async def show_html(name: str) -> Response:
    """Serve a mail's HTML by itself, for the frame that shows it."""
    _, mail = await _find(name)
    return frame(mail.html)


@blueprint.get("/dev/mail/<name>/source")
async def show_source(name: str) -> Response:
    """Serve a mail as it was sent."""
    _, mail = await _find(name)
    return Response(
        mail.source, content_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-store"}
    )


@blueprint.get("/dev/mail/news")
async def wait_news() -> Response:
    """Answer with the list once it is another than the one of `?version=`; 204: it stayed the same for 25 s."""
    maildir = _find_maildir()
    if maildir is None:
        raise NotFound
    stopping = get_context().stopping
    with trio.move_on_after(_WAIT):
        while not stopping.is_set():
            version = await trio.to_thread.run_sync(see_version, maildir)
            if version != request.args.get("version"):
                mails = await trio.to_thread.run_sync(list_mails, maildir)
                return await _show_part("mailbox_list.html", mails=mails, open=None, version=version)
            with trio.move_on_after(_LOOK):
                await stopping.wait()
    return empty()


def frame(html: str) -> Response:
    """Return a mail's HTML for a frame: its links open elsewhere, and nothing in it runs."""
    return Response(
        re.sub(r"(<head[^>]*>)", r'\1<base target="_blank">', html, count=1, flags=re.IGNORECASE),
        content_type="text/html; charset=utf-8",
        headers={"Content-Security-Policy": _MAIL_POLICY, "Cache-Control": "no-store"},
    )


async def _show(maildir: Path | None, mails: list[ReadMail], mail: ReadMail | None) -> Response:
    asked = request.args.get("view", "")
    views = get_args(View)
    return await _show_part(
        "mailbox.html",
        mails=mails,
        open=mail,
        views=[view for view in views if mail is None or view != "html" or mail.html],
        view=asked if asked in views else ("html" if mail is None or mail.html else "text"),
        version=await trio.to_thread.run_sync(see_version, maildir) if maildir else "",
        elsewhere=maildir is None,
    )


async def _show_part(template: str, **values: Any) -> Response:
    return await show_page(template, words=get_languages()[FALLBACK], frames=True, path_of=_path_of, **values)


def _path_of(link: str) -> str:
    """Return what a link is for: the path of its page."""
    return urlsplit(link).path.removeprefix("/") or link


async def _find(name: str) -> tuple[Path, ReadMail]:
    maildir = _find_maildir()
    if maildir is None:
        raise NotFound
    try:
        return maildir, await trio.to_thread.run_sync(partial(read_mail, maildir, name))
    except NoSuchMailError:
        raise NotFound from None


def _find_maildir() -> Path | None:
    """Return the folder that mail goes into, or None when it goes to a mail server.

    Raises:
        NotFound: this is not `dev`, or the request is not from this machine to one of its own names.
    """
    only_in_dev()
    settings = get_context().settings
    named = urlsplit(f"//{request.host}").hostname or ""
    own = named in {"localhost", urlsplit(settings.public_url).hostname} or _is_loopback(named)
    if not own or not is_local():  # any host on the network may send either alone
        raise NotFound
    places = [route.place for route in parse_mail_urls(settings.ways_out)]
    return next((place.path for place in places if isinstance(place, MaildirFolder)), None)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
