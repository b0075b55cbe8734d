"""What every page that waits for a mail shows beside its state: the way to the mailbox, and why nothing came yet."""
