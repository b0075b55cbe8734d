"""The REST API, the live status and the few pages: everything that speaks HTTP."""
