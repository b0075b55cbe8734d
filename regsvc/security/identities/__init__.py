"""Identity providers: OpenID Connect as a relying party, and GitHub's OAuth."""
