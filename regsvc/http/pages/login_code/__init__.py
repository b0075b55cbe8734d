"""Pages on which a browser logs in with a mailed code; they work without scripts."""
