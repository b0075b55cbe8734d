"""Operators' commands: a module for each group, and the code that runs them."""
