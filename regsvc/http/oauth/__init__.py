"""What other services ask about tokens, by the standards of OAuth 2.0."""
