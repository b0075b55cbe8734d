"""Several ways out for mail: which is taken, and what follows when one fails."""
