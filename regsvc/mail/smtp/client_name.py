"""The name for EHLO: this machine's, if it has a fully qualified one (RFC 5321, 4.1.4)."""

from __future__ import annotations

import re
import socket

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_FULL = re.compile(rf"(?=.{{1,253}}\Z)(?=.*[a-z]){_LABEL}(\.{_LABEL})+", re.IGNORECASE)
# Names without a meaning on other machines (RFC 6761, 6762, and defaults of installers).
_OF_NO_USE = (".local", ".localdomain", ".localhost", ".internal", ".lan", ".home", ".invalid", ".test")


def choose_client_name(sender_domain: str) -> str | None:
    """Return this machine's fully qualified name, else the sender's domain, else None for an address literal.

    The name is taken from the system without a DNS query, since DNS may be unavailable.

    Args:
        sender_domain: domain of MAIL_FROM.
    """
    for name in (socket.gethostname(), sender_domain):
        if _FULL.fullmatch(name) and not name.lower().endswith(_OF_NO_USE):
            return name
    return None
