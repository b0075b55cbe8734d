"""Pages for identity providers: the way there and back, buttons, and the identities of an account."""
