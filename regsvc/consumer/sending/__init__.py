"""Send claimed mails and record their outcomes."""
