"""Non-ASCII headers as encoded words (RFC 2047).

The standard library folds a long name without spaces by inserting spaces.
"""

from __future__ import annotations

import base64
import re
from typing import Final

_ROOM: Final = 45  # octets of an encoded word: 60 in base64, with its frame less than 75 (RFC 2047, 2)
_PLAIN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")  # atoms with spaces between (RFC 5322, 3.2.3)
_LONGEST: Final = 700  # characters of a header value that is not folded


def encode_text(text: str) -> str:
    """Return the value of an unstructured header, folded where it is encoded (RFC 2047, 5, rule 1)."""
    if text.isascii() and len(text) <= _LONGEST:
        return text
    return _encode(text)


def encode_mailbox(name: str, address: str) -> str:
    """Return `name <address>` for a header such as From (RFC 5322, 3.4).

    Args:
        name: Checked; quoted or encoded if necessary. Empty for the address alone.
        address: In ASCII.
    """
    if not name:
        return address
    if not name.isascii() or len(name) > _LONGEST:
        return f"{_encode(name)}\r\n <{address}>"
    if not _PLAIN.fullmatch(name) or name != " ".join(name.split()):
        quoted = re.sub(r'(["\\])', r"\\\1", name)
        name = f'"{quoted}"'
    return f"{name} <{address}>"


def _encode(text: str) -> str:
    """Return encoded words of whole characters. White space between two is not part of the text (RFC 2047, 6.2)."""
    words, octets = [], b""
    for character in text:
        added = character.encode()
        if len(octets) + len(added) > _ROOM:
            words.append(octets)
            octets = b""
        octets += added
    words.append(octets)
    return "\r\n ".join(f"=?utf-8?b?{base64.b64encode(word).decode()}?=" for word in words)
