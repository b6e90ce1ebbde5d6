"""What requests of a fields array have in common and in all."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from kedge_kernels._jit import brief_kernel
from kedge_kernels.fields import CODE, NBYTES, PLAN, ROWS


@brief_kernel
def summarize_fields(fields: NDArray[Any]) -> tuple[int, int, int]:
    """(plan, rows, bytes): the plan of all requests, -1 if one fell back or they differ, and the
    sums of ROWS and NBYTES.
    """
    plan = fields[0, PLAN]
    rows = 0
    nbytes = 0
    for request in range(fields.shape[0]):
        if fields[request, CODE] != 0 or fields[request, PLAN] != plan:
            plan = -1
        rows += fields[request, ROWS]
        nbytes += fields[request, NBYTES]
    return plan, rows, nbytes
