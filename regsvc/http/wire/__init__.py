"""What goes over one connection, whatever the application: Hypercorn's parts, bounded and barred."""
