"""What proves that a report is genuine: signatures of providers, and MACs in our own envelope senders."""
