"""How does a model that lies elsewhere come onto this machine? URLs, uploads, and the cache."""
