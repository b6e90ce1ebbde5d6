"""Which model versions exist, which are loaded, and how that changes while the server runs."""
