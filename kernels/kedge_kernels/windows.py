"""Sliding windows from tumbling ones: a ring of sketches of one reference.

Holds no clock: whoever has one calls `advance` when a window ends.
"""

from __future__ import annotations

from kedge_kernels import _checks
from kedge_kernels.sketch import Reference, Sketch, merge


class Windows:
    """The window being filled and the ones before it, `length` in all; memory for no more.

    Reading merges: least and greatest values cannot be taken back out of a running total. That is
    about a microsecond for each window of 50 columns, and nothing while rows are folded.
    """

    def __init__(self, reference: Reference, length: int) -> None:
        """length: at least 1, else ValueError."""
        self.reference = reference
        self.length = _checks.at_least("length", length, 1)
        self._sketches = [Sketch(reference) for _ in range(self.length)]
        self._advances = 0

    @property
    def current(self) -> Sketch:
        """The window to `update` now; another one after `advance`."""
        return self._sketches[self._advances % self.length]

    @property
    def begun(self) -> int:
        """How many windows there are to look at, 1 to `length`: the current one counts."""
        return min(self._advances + 1, self.length)

    def advance(self) -> Sketch:
        """Ends the current window and begins the next, forgetting the oldest if the ring is full.

        Returns a copy of the window that ended.
        """
        ended = self.current.copy()
        self._advances += 1
        self.current.clear()
        return ended

    def last(self, windows: int) -> Sketch:
        """The last `windows` windows, the current one included, as one sketch; of all that there
        are if there are less. ValueError below 1 or above `length`.
        """
        _checks.at_least("windows", windows, 1)
        if windows > self.length:
            raise ValueError(f"windows: expected at most {self.length}, got {windows}")
        total = Sketch(self.reference)
        for back in range(min(windows, self.begun)):
            merge(total, self._sketches[(self._advances - back) % self.length])
        return total

    def __repr__(self) -> str:
        return f"<Windows {self.begun}/{self.length}, {self.last(self.length).rows} rows>"
