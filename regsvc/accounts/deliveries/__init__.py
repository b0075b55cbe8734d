"""What becomes of accepted mails: reports, the registrations that show them, and suppressed addresses."""
