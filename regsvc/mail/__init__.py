"""Mails, from their rows in the database to their delivery to a mail server."""
