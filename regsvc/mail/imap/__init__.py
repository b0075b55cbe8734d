"""Read a mailbox over IMAP (RFC 3501, RFC 9051), changing nothing in it."""
