"""Pages about second factors: the second step of a login, the proof before changes, and the security page."""
