"""Tests of what a person does, called without any way in."""
