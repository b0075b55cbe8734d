"""SPF (RFC 7208): which servers may send for the domain of the envelope sender."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from regsvc.checks.mail.sender import Sender
    from regsvc.checks.report import Report

# What the record has to include for the mail servers of large services.
_INCLUDES: Final = (
    ("gmail.com", "_spf.google.com"),
    ("office365.com", "spf.protection.outlook.com"),
    ("outlook.com", "spf.protection.outlook.com"),
    ("amazonaws.com", "amazonses.com"),
    ("sendgrid.net", "sendgrid.net"),
    ("mailgun.org", "mailgun.org"),
    ("postmarkapp.com", "spf.mtasv.net"),
    ("brevo.com", "spf.brevo.com"),
    ("zoho.com", "zohomail.com"),
    ("zoho.eu", "zohomail.eu"),
)


async def check_spf(sender: Sender, report: Report) -> None:
    """Check the record of the envelope's domain against the servers that we hand our mail to."""
    if not sender.hosts:
        report.notes.append(f"{', '.join(sender.providers) or 'nothing'} sends under a domain of its own")
        return
    texts = await sender.list_texts(sender.envelope, report)
    if texts is None:
        return
    wanted = sorted({include for host in sender.hosts for end, include in _INCLUDES if _is_within(host, end)})
    record = " ".join(
        ["v=spf1", *(f"include:{name}" for name in wanted), *([] if wanted else ["mx"]), "~all"]
    )
    found = [text for text in texts if text.lower().split(" ")[0] == "v=spf1"]
    if not found:
        report.misconfigured.append(f"no record: add {sender.envelope} TXT {record!r}")
    elif len(found) > 1:
        report.misconfigured.append(
            f"{len(found)} records at {sender.envelope}, of which one may stay (RFC 7208, 4.5)"
        )
    else:
        _check_terms(found[0].lower().split(), wanted, sender, report)


def _check_terms(terms: list[str], wanted: list[str], sender: Sender, report: Report) -> None:
    if "+all" in terms or "all" in terms:
        report.misconfigured.append(
            f"the record of {sender.envelope} allows every server: end it in ~all or -all"
        )
    redirected = any(term.startswith("redirect=") for term in terms)
    for name in wanted:
        if not redirected and not any(term.lstrip("+").endswith(f"include:{name}") for term in terms):
            report.misconfigured.append(f"add include:{name} to the record of {sender.envelope}")
    if not wanted:
        report.notes.append(f"see that the record of {sender.envelope} names {', '.join(sender.hosts)}")


def _is_within(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")
