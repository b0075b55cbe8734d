"""From a kind of mail to the octets of an RFC 5322 message."""
