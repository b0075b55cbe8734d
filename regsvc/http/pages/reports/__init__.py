"""What browsers report about pages."""
