"""From bytes to bytes: decode, queue, batch, execute, answer. Read `serve.py` first."""
