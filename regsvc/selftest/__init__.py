"""Tests of a running service, from the outside and over HTTP alone."""
