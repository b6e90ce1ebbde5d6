"""What the guards share: a grid of bets in log space, and a verdict that stays.

An e-process starts at 1 and, while the hypothesis holds, never grows on average, whenever one
looks; so it reaches 1 / alpha with chance at most alpha, ever (Ville's inequality). The average of
the bets of a grid is an e-process again.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

import numpy as np

from kedge_kernels._checks import within
from kedge_kernels._frames import Floats, pack, unpack
from kedge_kernels._jit import brief_kernel, kernel

# Factors on the odds that are bet on: a little worse, and far worse.
ODDS = (1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 40.0)


@brief_kernel
def log_mean_exp(logs: Floats) -> float:
    """log(mean(exp(logs))) that overflows nowhere; logs: f64[k], k >= 1."""
    most = -np.inf
    for k in range(logs.size):
        most = max(most, logs[k])
    if most == -np.inf:
        return -np.inf
    total = 0.0
    for k in range(logs.size):
        total += math.exp(logs[k] - most)
    return float(most + math.log(total / logs.size))


@kernel
def reaches(logs: Floats, log_threshold: float) -> bool:
    """Whether the average of the bets is at the threshold; cheap while it is far from it."""
    # The average is at most the greatest, so most steps need no exponential.
    most = logs[0]
    for k in range(1, logs.size):
        most = max(most, logs[k])
    return bool(most >= log_threshold and log_mean_exp(logs) >= log_threshold)


class EProcess:
    """Evidence against a hypothesis that may be looked at after every observation.

    alpha: chance, in (0, 1), of ever rejecting a hypothesis that holds. `rejected` stays true once
    the evidence has reached 1 / alpha at any moment, however it fares later.
    """

    name: ClassVar[str]

    __slots__ = ("_log_threshold", "_logs", "_rejected", "alpha", "observations")

    def __init__(self, alpha: float, bets: int) -> None:
        self.alpha = within("alpha", alpha, 0, 1)
        self._log_threshold = -math.log(self.alpha)
        self._logs: Floats = np.zeros(bets)
        self._rejected = False
        self.observations = 0

    @property
    def log_e_value(self) -> float:
        """Logarithm of the evidence now, in nats; 0 at first. Finite however long it grows."""
        return float(log_mean_exp(self._logs))

    @property
    def e_value(self) -> float:
        """The evidence now; 1 at first, inf where float64 ends."""
        log_e_value = self.log_e_value
        return math.exp(log_e_value) if log_e_value < 709.0 else math.inf

    @property
    def rejected(self) -> bool:
        """Whether the hypothesis is rejected; never taken back."""
        return self._rejected

    def to_bytes(self) -> bytes:
        """Everything, parameters included."""
        head = (*self._parameters(), self.observations, self._rejected)
        return pack(self.name, np.concatenate([np.array(head, dtype=np.float64), self._logs]))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` wrote. Raises ValueError for anything else."""
        numbers = unpack(cls.name, data)
        count = len(cls._parameter_names())
        if numbers.size < count + 2:
            raise ValueError(f"state of {cls.name}: expected more numbers, got {numbers.size}")
        made = cls(*numbers[:count].tolist())
        observations, rejected = numbers[count : count + 2]
        logs = numbers[count + 2 :]
        if logs.size != made._logs.size or np.isnan(logs).any() or (logs == np.inf).any():
            raise ValueError(f"state of {cls.name}: expected {made._logs.size} bets, got {logs}")
        if not (0 <= observations <= 2**53 and rejected in (0, 1)):
            raise ValueError(f"state of {cls.name}: expected a count and a verdict, got others")
        made._logs[:] = logs
        made.observations = int(observations)
        made._rejected = bool(rejected)
        return made

    @classmethod
    def _parameter_names(cls) -> tuple[str, ...]:
        """The constructor's parameters, in its order, each an attribute of that name."""
        return ("alpha",)

    def _parameters(self) -> tuple[float, ...]:
        return tuple(getattr(self, name) for name in self._parameter_names())

    def __repr__(self) -> str:
        verdict = "rejected" if self._rejected else "open"
        return (
            f"<{type(self).__name__} {verdict}, log e {self.log_e_value:.3g} of"
            f" {self._log_threshold:.3g}, {self.observations} observations>"
        )
