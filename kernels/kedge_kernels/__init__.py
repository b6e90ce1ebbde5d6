"""The server's hot loops in Numba: bytes and arrays in, bytes and arrays out. Knows no server."""

from kedge_kernels.codec import warm

__all__ = ["warm"]
