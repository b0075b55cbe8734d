"""The fault suite: the real program under load while everything that it stands on is killed, cut and filled.

`make faults` runs all of it and prints a table, `make test` runs a short form; docs/reliability.md says how to read it.
"""
