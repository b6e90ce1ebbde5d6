"""Endpoint YAML: from a file to checked core values. The only user of pydantic and yaml here."""
