"""Jobs: work that must happen once after a commit, claimed from a table under a lease."""
