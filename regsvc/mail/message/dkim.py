"""Sign messages by DKIM (RFC 6376, RFC 8463), so that receivers know that they come from the sender's domain."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from regsvc.config.dkim_keys import Key

# Signed once more than they occur, so that another one breaks the signature (RFC 6376, 8.15).
_OVERSIGNED: Final = (b"from", b"to", b"subject", b"date", b"message-id")
_SIGNED: Final = (b"mime-version", b"content-type", b"auto-submitted")
_FOLD: Final = 72  # characters of a line of base64


@dataclass(frozen=True, slots=True)
class Signer:
    """Sign messages of one domain.

    Args:
        domain: domain of the sender, in lower case.
        keys: one or two; each adds a signature.
    """

    domain: str
    keys: tuple[Key, ...]

    def sign(self, message: bytes) -> bytes:
        """Return the message with its signatures in front.

        The same message and keys give the same octets: the time of signing is the message's Date.

        Args:
            message: with CRLF line ends and a body.
        """
        head, _, body = message.partition(b"\r\n\r\n")
        fields = _read_fields(head)
        names = [name for name, _ in fields]
        listed = [name for name in (*_OVERSIGNED, *_SIGNED) for _ in range(names.count(name))]
        listed += _OVERSIGNED
        time = _read_time(fields)
        digest = base64.b64encode(sha256(relax_body(body)).digest()).decode()
        signed = _choose(fields, listed)
        return b"".join(self._sign(key, signed, listed, digest, time) for key in self.keys) + message

    def _sign(
        self, key: Key, signed: Sequence[bytes], listed: Sequence[bytes], digest: str, time: str
    ) -> bytes:
        unsigned = (
            f"DKIM-Signature: v=1; a={key.algorithm}; c=relaxed/relaxed; d={self.domain};\r\n"
            f" s={key.selector};{time}\r\n"
            f" h={_fold_names(listed)};\r\n"
            f" bh={digest};\r\n"
            " b="
        )
        octets = b"".join([*signed, relax_field(unsigned.encode())])
        signature = base64.b64encode(key.sign(octets)).decode()
        lines = [signature[at : at + _FOLD] for at in range(0, len(signature), _FOLD)]
        return (unsigned + "\r\n  ".join(lines) + "\r\n").encode()


def relax_field(field: bytes) -> bytes:
    """Return a header field in the relaxed form (RFC 6376, 3.4.2), without its CRLF."""
    name, _, value = field.partition(b":")
    value = re.sub(rb"[ \t]+", b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return name.strip(b" \t").lower() + b":" + value


def relax_body(body: bytes) -> bytes:
    """Return a body in the relaxed form (RFC 6376, 3.4.4)."""
    lines = re.sub(rb"[ \t]+", b" ", body).replace(b" \r\n", b"\r\n").removesuffix(b" ")
    lines = re.sub(rb"(?:\r\n)+\Z", b"", lines)
    return lines + b"\r\n" if lines else b""


def _read_fields(head: bytes) -> list[tuple[bytes, bytes]]:
    """Return the header fields, by lower-case name, still folded."""
    fields = re.split(rb"\r\n(?![ \t])", head)
    return [(field.partition(b":")[0].strip(b" \t").lower(), field) for field in fields if field]


def _choose(fields: Sequence[tuple[bytes, bytes]], listed: Sequence[bytes]) -> list[bytes]:
    """Return the relaxed fields in the order in which they are signed: of one name, the last one first (5.4.2)."""
    left = {name: [field for other, field in fields if other == name] for name in set(listed)}
    return [relax_field(left[name].pop()) + b"\r\n" for name in listed if left[name]]


def _fold_names(listed: Sequence[bytes]) -> str:
    text, width = "", 0
    for name in (each.decode() for each in listed):
        if text:
            text, width = text + ":", width + 1
        if width + len(name) > _FOLD:
            text, width = text + "\r\n  ", 2
        text, width = text + name, width + len(name)
    return text


def _read_time(fields: Sequence[tuple[bytes, bytes]]) -> str:
    """Return the tag of the time of signing, from the header Date; empty without one."""
    for name, field in fields:
        if name == b"date":
            try:
                return (
                    f" t={int(parsedate_to_datetime(field.partition(b':')[2].decode().strip()).timestamp())};"
                )
            except ValueError:
                break
    return ""
