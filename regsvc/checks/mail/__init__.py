"""`regsvc check --mail`: what receivers look up about our mail, each with the record to add."""
