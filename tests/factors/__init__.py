"""Second factors: authenticator apps, recovery codes, step-up."""
