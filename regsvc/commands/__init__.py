"""What operators type: a module for each group of commands, and how all of them run."""
