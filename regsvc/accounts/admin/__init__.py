"""What an administrator may look up and do."""
