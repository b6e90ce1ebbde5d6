"""A machine as a row of a benchmark describes it; no such machine exists."""

MACHINE = {
    "cpu": "Testprocessor",
    "cpu_family": "1",
    "cores": 2,
    "memory_gib": 4,
    "kernel": "6",
    "python": "3.11",
    "packages": {"torch": "2.13", "numba": "0.68"},
    "commit": "abc",
    "uncommitted": False,
}
