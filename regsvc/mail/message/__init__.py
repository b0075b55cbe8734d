"""Rendering: from a kind of message to the octets of RFC 5322."""
