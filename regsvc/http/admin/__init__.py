"""The administrators' API, one resource a file."""
