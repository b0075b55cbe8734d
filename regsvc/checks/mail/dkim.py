"""DKIM (RFC 6376): whether the keys that sign our mail are published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsvc.config.dkim_keys import Key, load_keys

if TYPE_CHECKING:
    from regsvc.checks.mail.sender import Sender
    from regsvc.checks.report import Report


async def check_dkim(sender: Sender, report: Report) -> None:
    """Check the record of each selector against its key."""
    settings = sender.settings
    if settings.dkim_key is None:
        by = ", ".join([*sender.providers, *sender.hosts])
        report.notes.append(
            f"REGSVC_DKIM_KEY is not set: {by or 'the mail server'} has to sign for {sender.domain}"
        )
        return
    for key in load_keys(settings.dkim_key.get_secret_value(), settings.dkim_selector):
        await _check_key(sender, key, report)


async def _check_key(sender: Sender, key: Key, report: Report) -> None:
    name = f"{key.selector}._domainkey.{sender.domain}"
    texts = await sender.list_texts(name, report)
    if texts is None:
        return
    records = [read_tags(text) for text in texts]
    published = ["".join(tags["p"].split()) for tags in records if "p" in tags]
    if not published:
        report.misconfigured.append(f"no record: add {name} TXT {key.record!r}")
    elif published == [""]:
        report.misconfigured.append(f"the key at {name} is revoked: publish {key.record!r}")
    elif published != [key.public]:
        report.misconfigured.append(f"{name} has another key than REGSVC_DKIM_KEY: publish {key.record!r}")
    elif records[0].get("k", "rsa") != key.algorithm.partition("-")[0]:
        report.misconfigured.append(f"the record at {name} names another algorithm: publish {key.record!r}")
    elif "y" in records[0].get("t", "").split(":"):
        report.notes.append(f"the record at {name} says that it is being tested (t=y)")


def read_tags(text: str) -> dict[str, str]:
    """Return the tags of a record (RFC 6376, 3.2)."""
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip().lower(): value.strip() for name, equals, value in pairs if equals}
