"""How the suite itself runs: its processes, their order, the ports and programs that they share."""
