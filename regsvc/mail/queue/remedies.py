"""What an operator does about a refusal that is about us, in words."""

from __future__ import annotations

import re
from typing import Final

# Reply, or reason; what to do. The first that matches decides.
_REMEDIES: Final = tuple(
    (re.compile(words, re.IGNORECASE), remedy)
    for words, remedy in (
        (
            r"\b5\.1\.90\b",
            (
                "Microsoft: the mailbox has sent as many messages as it may in a day. Wait until tomorrow, or send "
                "by a provider that is made for it."
            ),
        ),
        (
            r"\b5\.2\.252\b|sendasdenied",
            (
                "Microsoft: the login may not send as REGSVC_MAIL_FROM. Grant it Send As for that mailbox, or set "
                "REGSVC_MAIL_FROM to the login's own address."
            ),
        ),
        (
            r"\b5\.7\.26\b",
            "The sender's domain passes neither SPF nor DKIM. Publish an SPF record, and sign with REGSVC_DKIM_KEY.",
        ),
        (
            r"\b5\.7\.30\b|basic authentication is disabled",
            "Microsoft: passwords are switched off for SMTP. Use `?auth=xoauth2` with REGSVC_SMTP_OAUTH_TOKEN_URL.",
        ),
        (
            r"\b5\.7\.515\b",
            "Microsoft: SPF, DKIM and DMARC must all pass for the sender's domain. Publish their records.",
        ),
        (
            r"\b5\.4\.5\b|daily (user )?sending (limit|quota)",
            (
                "The account has sent as many messages as it may in a day; Gmail counts 24 hours. Add a second route, "
                "or send by a provider that is made for it."
            ),
        ),
        (
            r"not verified|sender identity|sender signature",
            (
                "The provider has not verified the sender, or is in a sandbox that knows no other recipients. Verify "
                "the domain of REGSVC_MAIL_FROM there, and ask for production access."
            ),
        ),
        (
            r"^auth_(failed|required)",
            "Check user, password or key in REGSVC_MAIL_URL, then restart the workers.",
        ),
        (
            r"^auth_not_offered",
            "The server offers no way to log in that regsvc knows. Check scheme and port.",
        ),
        (
            r"^sending_limit_reached",
            "The account has reached its sending limit. Wait, raise it, or add a second route to REGSVC_MAIL_URL.",
        ),
        (
            r"^sender_refused",
            "The server refuses REGSVC_MAIL_FROM. Use an address that this login may send from.",
        ),
        (
            r"^certificate_invalid",
            "The server's certificate does not match. Check the host name, or set `?cafile=`.",
        ),
        (
            r"^policy_refused",
            "The server refuses our mail by its policy; its reply says more.",
        ),
    )
)


def find_remedy(reason: str | None, reply: str | None) -> str | None:
    """Return what an operator does about a refusal, or None if nothing is known.

    Args:
        reason: one of `regsvc.mail.outcome.Reason`.
        reply: of the server.
    """
    text = f"{reason or ''} {reply or ''}"
    return next((remedy for words, remedy in _REMEDIES if words.search(text)), None)
