"""DMARC (RFC 7489): whether what receivers verify belongs to the domain that people see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsvc.checks.mail.dkim import read_tags
from regsvc.checks.mail.sender import is_aligned
from regsvc.dns.public_names import find_organization

if TYPE_CHECKING:
    from regsvc.checks.mail.sender import Sender
    from regsvc.checks.report import Report


async def check_dmarc(sender: Sender, report: Report) -> None:
    """Check that there is a policy, and that SPF or DKIM is aligned with the domain of From."""
    places = dict.fromkeys([sender.domain, find_organization(sender.domain)])
    for place in places:
        texts = await sender.list_texts(f"_dmarc.{place}", report)
        if texts is None:
            return
        found = [tags for text in texts if (tags := read_tags(text)).get("v", "").upper() == "DMARC1"]
        if found:
            _check_policy(found, place, sender, report)
            return
    place = list(places)[-1]
    report.misconfigured.append(
        f"no record: add _dmarc.{place} TXT 'v=DMARC1; p=none; rua=mailto:postmaster@{place}'"
    )


def _check_policy(found: list[dict[str, str]], place: str, sender: Sender, report: Report) -> None:
    tags = found[0]
    if len(found) > 1:
        report.misconfigured.append(f"{len(found)} records at _dmarc.{place}, of which one may stay")
    if tags.get("p", "").lower() not in {"none", "quarantine", "reject"}:
        report.misconfigured.append(
            f"the record at _dmarc.{place} has no policy: add p=none, quarantine or reject"
        )
    strict = tags.get("aspf", "r").lower() == "s"
    spf = sender.envelope == sender.domain if strict else is_aligned(sender.envelope, sender.domain)
    signed = sender.settings.dkim_key is not None
    if not signed and not sender.providers and (not spf or sender.rewriting):
        report.misconfigured.append(
            f"neither SPF nor DKIM is aligned with {sender.domain}: set REGSVC_DKIM_KEY, or its own return path"
        )
    elif not spf and not sender.providers:
        report.notes.append(f"SPF is not aligned ({sender.envelope}), so all depends on DKIM")
