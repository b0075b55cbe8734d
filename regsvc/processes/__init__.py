"""Several processes of one service on one machine: a supervisor that starts them, and what each knows of the others."""
