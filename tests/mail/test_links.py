"""How many links a mail has: filters of spam hold an odd number against a message of text and HTML."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from email.headerregistry import Address

import pytest

from regsvc.mail.message.render import Renderer
from regsvc.mail.message.samples import render_samples

SENDER = Address(addr_spec="no-reply@example.org")
HOME = "https://accounts.example.org"


def read_parts(source: bytes) -> list[str]:
    """Return text and HTML of a mail."""
    message = message_from_bytes(source, policy=policy.default)
    parts = [message.get_body((kind,)) for kind in ("plain", "html")]
    return [str(part.get_content()) for part in parts if part is not None]


@pytest.mark.parametrize("logo", [None, "https://cdn.example.org/logo.png"], ids=["brand", "logo"])
def test_the_number_of_links_is_even(logo: str | None) -> None:
    renderer = Renderer(sender=SENDER, brand="regsvc", logo=logo, home=HOME)
    counted = {}
    for sample in render_samples(renderer, HOME):
        text, html = read_parts(sample.source)
        counted[sample.kind, sample.language] = len(re.findall("https?://", text)) + len(
            re.findall(r"(?:href|src)=", html)
        )
    assert {which: number for which, number in counted.items() if number % 2} == {}
    assert len({kind for kind, _ in counted}) > 15
