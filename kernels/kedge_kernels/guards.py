"""Guards of a rollout: e-processes on bad events, on pairs and on the split itself.

Verdicts are per observation and dependent observations break them: with sticky routing, count the
first bad event of each key only.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kedge_kernels._checks import finite_at_least, same_length, series, truths, within
from kedge_kernels._frames import Floats
from kedge_kernels._jit import kernel, warm_up
from kedge_kernels.evidence import ODDS, EProcess, reaches

# Pairs: how often the winner wins. Split: factors on the odds, either way; 1 % lost calls matter.
WIN_RATES = tuple(0.5 + 0.05 * k for k in range(1, 10))
SPLIT_ODDS = (1.01, 1.02, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0)


@kernel
def _bet_on_arm(
    logs: Floats,
    log_odds: Floats,
    candidate: NDArray[np.bool_],
    fair: Floats,
    log_threshold: float,
) -> tuple[int, bool]:
    """Bets that each event is the candidate's with odds that are exp(log_odds) times as high as
    its fair probability says; how many events were bet on, and whether the threshold was reached.
    """
    odds = np.exp(log_odds)
    prices = np.zeros(odds.size)
    priced = -1.0
    used = 0
    reached = False
    for i in range(candidate.size):
        w = fair[i]
        # 0 and 1: not drawn but forced, which says nothing about the arms.
        if not 0.0 < w < 1.0:
            continue
        if w != priced:
            # Shares change seldom, and logarithms are what an event costs: 10 of them.
            for k in range(odds.size):
                prices[k] = math.log1p(w * (odds[k] - 1.0))
            priced = w
        for k in range(odds.size):
            logs[k] -= prices[k]
            if candidate[i]:
                logs[k] += log_odds[k]
        used += 1
        if not reached:
            reached = reaches(logs, log_threshold)
    return used, reached


@kernel
def _bet_on_rate(
    logs: Floats, gains: Floats, losses: Floats, bad: NDArray[np.bool_], log_threshold: float
) -> bool:
    """Adds gains for every bad and losses for every good one; whether the threshold was reached."""
    reached = False
    for i in range(bad.size):
        for k in range(logs.size):
            logs[k] += gains[k] if bad[i] else losses[k]
        if not reached:
            reached = reaches(logs, log_threshold)
    return reached


@kernel
def _bet_on_pairs(
    logs: Floats, gains: Floats, losses: Floats, counts: Floats, log_threshold: float
) -> bool:
    """counts: f64[2, n], wins and losses of each entry; whether the threshold was reached."""
    reached = False
    for i in range(counts.shape[1]):
        for k in range(logs.size):
            logs[k] += counts[0, i] * gains[k] + counts[1, i] * losses[k]
        if not reached:
            reached = reaches(logs, log_threshold)
    return reached


def _events(candidate: ArrayLike, probability: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    arms = truths("candidate", candidate)
    shares = series("probability", probability)
    if shares.size == 1 and arms.size != 1:
        shares = np.full(arms.size, shares[0])
    same_length("candidate and probability", arms, shares)
    wrong = ~((shares >= 0) & (shares <= 1))
    if wrong.any():
        raise ValueError(
            f"probability: expected numbers in (0, 1), or 0 and 1 if forced, got {shares[wrong][0]}"
        )
    return arms, shares


class BadEventGuard(EProcess):
    """Is the candidate worse than stable? Evidence from bad events alone: errors, slow answers.

    Hypothesis: a request is no more than `margin` times as likely to turn bad on the candidate as
    on stable. Then, given a bad event, it is the candidate's with probability at most
    w m / (w m + 1 - w), w being the candidate's share of traffic at that moment. So it holds under
    changing shares and under outages that hit both, and needs no count of good requests.
    alpha: chance of ever rejecting it wrongly, in (0, 1). margin: at least 1e-3; 1 for "no worse".
    Raises ValueError for parameters out of range.
    Source: conditional binomial test (Przyborowski & Wilenski 1940, Biometrika 31) as a mixture
    e-process (Ramdas et al. 2023, Statist. Sci. 38(4), section 3).
    """

    name = "BadEventGuard"

    __slots__ = ("margin",)

    def __init__(self, alpha: float, margin: float = 1.0) -> None:
        super().__init__(alpha, len(ODDS))
        self.margin = finite_at_least("margin", margin, 1e-3)

    def update(self, candidate: ArrayLike, probability: ArrayLike) -> None:
        """Bad events in order. candidate: bool[n], whether each was the candidate's; probability:
        f64[n] (or one number for all), the probability with which its request was routed there.
        Exactly 0 or 1 means that the request was not drawn but forced: it contributes nothing.

        Raises ValueError, with nothing taken in, for other shapes and probabilities.
        """
        arms, shares = _events(candidate, probability)
        weighted = shares * self.margin
        # 1 - share first: then a share of 1 stays 1, whatever the margin.
        fair = weighted / (weighted + (1.0 - shares))
        used, reached = _bet_on_arm(self._logs, np.log(ODDS), arms, fair, self._log_threshold)
        self.observations += used
        self._rejected = self._rejected or reached

    @classmethod
    def _parameter_names(cls) -> tuple[str, ...]:
        return ("alpha", "margin")


class SampleRatioGuard(EProcess):
    """Does traffic split as configured? Sees broken routing and requests lost by one arm.

    Hypothesis: each request goes to the candidate with the probability that is stated. Two-sided.
    While it is rejected, no other verdict on the arms means anything. alpha: as `BadEventGuard`.
    Source: as `BadEventGuard`; the use is Lindon & Malek 2022, NeurIPS 35.
    """

    name = "SampleRatioGuard"

    __slots__ = ()

    def __init__(self, alpha: float) -> None:
        super().__init__(alpha, 2 * len(SPLIT_ODDS))

    def update(self, candidate: ArrayLike, probability: ArrayLike) -> None:
        """All requests in order; arguments and errors as of `BadEventGuard.update`."""
        arms, shares = _events(candidate, probability)
        log_odds = np.log(SPLIT_ODDS)
        used, reached = _bet_on_arm(
            self._logs,
            np.concatenate([log_odds, -log_odds]),
            arms,
            shares,
            self._log_threshold,
        )
        self.observations += used
        self._rejected = self._rejected or reached


class AbsoluteGuard(EProcess):
    """Is the rate of bad requests above what is allowed? Needs no other arm.

    Hypothesis: each request is bad with probability at most `rate_max`, whatever came before.
    alpha: chance of ever rejecting it wrongly, in (0, 1). rate_max: in (0, 1). Raises ValueError
    for parameters out of range.
    Source: Wald 1945, Ann. Math. Statist. 16, likelihood ratios averaged over ten rates.
    """

    name = "AbsoluteGuard"

    __slots__ = ("_gains", "_losses", "rate_max")

    def __init__(self, alpha: float, rate_max: float) -> None:
        super().__init__(alpha, len(ODDS))
        self.rate_max = within("rate_max", rate_max, 0, 1)
        odds = np.array(ODDS)
        scale = 1.0 + self.rate_max * (odds - 1.0)
        self._gains: Floats = np.log(odds) - np.log(scale)
        self._losses: Floats = -np.log(scale)

    def update(self, bad: ArrayLike) -> None:
        """Requests in order. bad: bool[n]. Raises ValueError, with nothing taken in, for others."""
        outcomes = truths("bad", bad)
        reached = _bet_on_rate(self._logs, self._gains, self._losses, outcomes, self._log_threshold)
        self.observations += outcomes.size
        self._rejected = self._rejected or reached

    @classmethod
    def _parameter_names(cls) -> tuple[str, ...]:
        return ("alpha", "rate_max")


class PairedGuard(EProcess):
    """Does one side of pairs win more often? Evidence from pairs that differ, such as a request
    that one model answers rightly and its shadow wrongly.

    Hypothesis: a pair that differs is a win with probability at most 1/2. Which side's wins are
    counted decides what is guarded: stable's wins over the candidate reject "no worse".
    alpha: chance of ever rejecting it wrongly, in (0, 1).
    Source: McNemar 1947, Psychometrika 12, as likelihood ratios averaged over nine win rates.
    """

    name = "PairedGuard"

    __slots__ = ()

    def __init__(self, alpha: float) -> None:
        super().__init__(alpha, len(WIN_RATES))

    def update(self, wins: ArrayLike, losses: ArrayLike) -> None:
        """wins, losses: numbers of pairs, whole and at least 0; or i64[n] of each, looked at after
        every entry. Raises ValueError, with nothing taken in, for others.
        """
        won, lost = series("wins", wins), series("losses", losses)
        same_length("wins and losses", won, lost)
        for thing, numbers in (("wins", won), ("losses", lost)):
            wrong = ~((numbers >= 0) & (numbers <= 2**53) & (numbers == np.floor(numbers)))
            if wrong.any():
                raise ValueError(f"{thing}: expected whole counts, got {numbers[wrong][0]}")
        gain = np.log([2.0 * rate for rate in WIN_RATES])
        loss = np.array([math.log(2.0) + math.log1p(-rate) for rate in WIN_RATES])
        counts = np.stack([won, lost])
        reached = _bet_on_pairs(self._logs, gain, loss, counts, self._log_threshold)
        self.observations += int(counts.sum())
        self._rejected = self._rejected or reached


@warm_up
def _warm() -> None:
    for guard in (BadEventGuard(0.1), SampleRatioGuard(0.1)):
        guard.update(True, 0.5)
    absolute, paired = AbsoluteGuard(0.1, 0.1), PairedGuard(0.1)
    absolute.update(True)
    paired.update(1, 1)
    assert paired.log_e_value < absolute.log_e_value
