"""Tests of `regsvc.jobs`, on a table of their own."""
