"""What EHLO says of us: the name of this machine where it has a full one (RFC 5321, 4.1.4)."""

from __future__ import annotations

import re
import socket

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_FULL = re.compile(rf"(?=.{{1,253}}\Z)(?=.*[a-z]){_LABEL}(\.{_LABEL})+", re.IGNORECASE)
# Names that mean something to nobody else (RFC 6761, 6762, and what installers make up).
_OF_NO_USE = (".local", ".localdomain", ".localhost", ".internal", ".lan", ".home", ".invalid", ".test")


def choose_client_name(sender_domain: str) -> str | None:
    """Return the full name of this machine, else the domain that mail comes from, else None for an address literal.

    The name is the one that the system has without asking DNS, which may be away.

    Args:
        sender_domain: Of MAIL_FROM.
    """
    for name in (socket.gethostname(), sender_domain):
        if _FULL.fullmatch(name) and not name.lower().endswith(_OF_NO_USE):
            return name
    return None
