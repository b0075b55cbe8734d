"""HTTP: REST API, live status, and HTML pages."""
