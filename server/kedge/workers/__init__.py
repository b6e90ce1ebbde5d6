"""Worker processes: what runs models that may hold the GIL, block, crash or hang."""
