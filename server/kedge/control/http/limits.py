"""Every bound of the HTTP process, with the reason for its number."""

from __future__ import annotations

MIB = 1024 * 1024

# As a body, decompressed. The gateway takes 64 MiB messages too. As JSON text this is 3 million
# numbers, read in 1 s; the worst text of this length takes 5 s and 1.7 GB, one at a time.
BODY_BYTES_MAX = 64 * MIB
# All bodies together, while their requests are answered. What comes beyond is refused with 503, as
# the gateway does with its own queues (256 MiB).
BODIES_BYTES_MAX = 256 * MIB
# Request line and headers. A bearer token has at most some KiB; the HTTP parser has no limit.
HEAD_BYTES_MAX = 64 * 1024
# Below the 1,024 files that a process may usually open; each connection is one.
CONNECTIONS_MAX = 512
# Prometheus and a few people; a limit of its own, so that a full REST port does not hide why.
METRICS_CONNECTIONS_MAX = 32
# From the first byte of a request to the last of its headers, and again to the last of its body:
# 64 MiB in it need 9 Mbit/s. Without it a silent client keeps its connection for ever.
READ_S_MAX = 60.0
# Clients that ask once a second must not connect anew; uvicorn's 5 s is the usual poll interval.
IDLE_S_MAX = 30
# An error's text may quote what the client sent; nobody reads more than this.
ERROR_CHARS_MAX = 1_000
# Longest wait for the gateway's answer to a call; tritonclient's own default.
CALL_S_MAX = 60.0
# A load answers when the model is ready: large ones are read from slow disks and warmed up.
LOAD_S_MAX = 600.0
# How long SIGTERM waits for running requests. The gateway sends it after its own drain, when all
# answers are there, and kills after 5 s.
DRAIN_S_MAX = 4
