"""The way to a reader's mailbox, and how long its mails usually take.

Both follow from the domain of the address alone, so they tell nothing about accounts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import StringConstraints
from quart import Response

from regsvc.accounts.address import MAX_TYPED, AddressError, parse_address
from regsvc.accounts.deliveries.families import find_usual
from regsvc.dns.mail_domains import ask_mail_domain
from regsvc.dns.public_names import is_public
from regsvc.dns.resolver import NoAnswerError
from regsvc.flows.rate_limits import SIGNUP_CHECK, throttle
from regsvc.http.context import Context, get_context
from regsvc.http.pages.forms import check_same_origin
from regsvc.http.pages.page import blueprint
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer
from regsvc.mail.mailbox import read_mailbox
from regsvc.mail.receivers.popular import list_popular
from regsvc.mail.receivers.webmail import Webmail, find_webmail
from regsvc.schemas.fields import Body

_PATIENCE = 0.7  # seconds that a page waits for the DNS


class MailboxBody(Body):
    """The address that a mail went to."""

    email: Annotated[str, StringConstraints(max_length=MAX_TYPED)]


@dataclass(frozen=True)
class Mailbox:
    """A reader's mailbox.

    Args:
        domain: of the address, as it was typed.
        sender: our address.
        webmail: where it is read in a browser, if that is known.
        usual: seconds within which nearly all mails of its kind are delivered, if that is known.
    """

    domain: str
    sender: str
    webmail: Webmail | None = None
    usual: float | None = None


async def find_mailbox(email: str) -> Mailbox:
    """Return what is known of the mailbox of an address that a sign-up would take.

    Of an erased address, which is empty, nothing is known.

    Raises:
        DatabaseUnavailableError: the usual time cannot be read.
    """
    context = get_context()
    sender = context.settings.mail_from.addr_spec
    if not email:
        return Mailbox("", sender)
    async with context.pool.connection() as conn:
        usual = await find_usual(conn, email)
    webmail = find_webmail(email, sender) or find_webmail(
        email, sender, await _find_exchanger(context, email)
    )
    return Mailbox(email.rpartition("@")[2], sender, webmail, usual)


async def _find_exchanger(context: Context, email: str) -> str | None:
    domain = read_mailbox(email).domain
    if not is_public(domain) or domain in list_popular():
        return None
    try:
        with context.look_ups.counted(get_caller().network) as resolver:
            exchangers = (await ask_mail_domain(resolver, domain, seconds=_PATIENCE)).exchangers
    except NoAnswerError:
        return None
    return exchangers[0] if exchangers else None


@blueprint.post("/mailbox")
async def show_mailbox() -> Response:
    """Return to a script of ours the way to the mailbox of an address, and how long its mails usually take."""
    check_same_origin()
    body = await read_body(MailboxBody)
    await throttle(get_context(), get_caller(), SIGNUP_CHECK)
    try:
        email = parse_address(body.email, get_context().settings.local_domains).email
    except AddressError:
        return answer({"webmail": None, "usual": None})
    found = await find_mailbox(email)
    webmail = None if found.webmail is None else {"name": found.webmail.name, "url": found.webmail.url}
    return answer({"webmail": webmail, "usual": found.usual})
