"""Traffic by Thompson sampling: each arm's share is its chance to be the best."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from kedge_kernels._checks import finite_at_least, whole
from kedge_kernels._frames import Floats


def thompson_weights(
    successes: ArrayLike,
    failures: ArrayLike,
    *,
    seed: int,
    draws: int = 4096,
    floor: float = 0.05,
    prior: tuple[float, float] = (1.0, 1.0),
) -> Floats:
    """Shares of traffic, f64[..., arms], each row summing to 1: floor + (1 - arms floor) P(best).

    successes, failures: f64[..., arms], counts of at least 0 (weighted counts are allowed); leading
    dimensions are context buckets, each for itself. P(best): the share of `draws` draws from
    Beta(prior + counts) in which the arm is the highest; its standard error is at most
    0.5 / sqrt(draws). seed: same seed, same weights. floor: least share of an arm, 0 to 1 / arms.
    The shares follow the data, so a plain mean per arm is biased: weigh by 1 / share. A posterior
    may not be looked at at any time: decide by a guard or a confidence sequence.
    Raises ValueError for arguments out of range.
    Source: Thompson 1933, Biometrika 25; Scott 2010, Appl. Stoch. Models Bus. Ind. 26.
    """
    won, lost = np.asarray(successes, np.float64), np.asarray(failures, np.float64)
    if won.shape != lost.shape or won.ndim == 0 or won.shape[-1] == 0:
        raise ValueError(
            f"successes and failures: expected equal shapes [..., arms], got {won.shape}"
            f" and {lost.shape}"
        )
    if not (np.all(won >= 0) and np.all(lost >= 0) and np.isfinite(won + lost).all()):
        raise ValueError("successes and failures: expected counts of at least 0, got others")
    arms = won.shape[-1]
    if not 0 <= floor * arms <= 1:
        raise ValueError(f"floor: expected 0 to 1 / {arms} arms, got {floor}")
    rng = np.random.default_rng(whole("seed", seed, 0, 2**64 - 1))
    a, b = (finite_at_least("prior", share, 1e-6) for share in prior)
    samples = rng.beta(won + a, lost + b, size=(whole("draws", draws, 1, 10**6), *won.shape))
    best = samples.argmax(axis=-1)
    chances = np.stack([(best == arm).mean(axis=0) for arm in range(arms)], axis=-1)
    weights: Floats = floor + (1.0 - arms * floor) * chances
    return weights
