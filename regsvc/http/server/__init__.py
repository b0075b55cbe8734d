"""The hardened HTTP server: Hypercorn's parts and ours."""
