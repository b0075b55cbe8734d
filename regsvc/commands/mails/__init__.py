"""Parts of `regsvc mail`."""
