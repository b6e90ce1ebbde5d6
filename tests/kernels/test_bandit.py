"""Thompson weights against integration, and their floor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta

from kedge_kernels.bandit import thompson_weights
from support.seeds import commit_seed


def chance_first_is_best(won: tuple[float, float], lost: tuple[float, float]) -> float:
    first = beta(1 + won[0], 1 + lost[0])
    second = beta(1 + won[1], 1 + lost[1])
    chance, _ = quad(lambda p: first.pdf(p) * second.cdf(p), 0, 1, limit=200)
    return float(chance)


@pytest.mark.parametrize(
    ("won", "lost"),
    [((0, 0), (0, 0)), ((5, 3), (10, 12)), ((90, 100), (900, 900)), ((3, 0), (0, 3))],
)
def test_weights_are_the_chances_to_be_best(won: Any, lost: Any) -> None:
    weights = thompson_weights(won, lost, seed=commit_seed("thompson"), floor=0.0)
    # Six standard errors of 4,096 draws.
    assert abs(weights[0] - chance_first_is_best(won, lost)) < 6 * 0.5 / 64
    assert np.isclose(weights.sum(), 1.0)


def test_no_arm_falls_below_the_floor_and_shares_sum_to_one() -> None:
    weights = thompson_weights([1000, 0, 0, 500], [0, 1000, 1000, 500], seed=1, floor=0.05)
    assert (weights >= 0.05).all()
    assert np.isclose(weights.sum(), 1.0)
    assert np.isclose(weights[0], 0.85)
    assert thompson_weights([9, 0], [0, 9], seed=1, floor=0.5).tolist() == [0.5, 0.5]


def test_the_same_seed_gives_the_same_weights_and_another_gives_others() -> None:
    first = thompson_weights([5, 6, 7], [5, 4, 3], seed=7)
    assert first.tolist() == thompson_weights([5, 6, 7], [5, 4, 3], seed=7).tolist()
    assert first.tolist() != thompson_weights([5, 6, 7], [5, 4, 3], seed=8).tolist()


def test_each_context_bucket_is_for_itself() -> None:
    won = np.array([[50, 0], [0, 50], [0, 0]])
    weights = thompson_weights(won, won[:, ::-1], seed=3, floor=0.0)
    assert weights.shape == (3, 2)
    assert weights[0, 0] > 0.999
    assert weights[1, 1] > 0.999
    assert abs(weights[2, 0] - 0.5) < 6 * 0.5 / 64


def test_one_arm_gets_all() -> None:
    assert thompson_weights([3], [4], seed=0).tolist() == [1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"successes": [1], "failures": [1, 2]}, "successes and failures: expected equal shapes"),
        ({"successes": 1, "failures": 1}, "successes and failures: expected equal shapes"),
        ({"successes": [], "failures": []}, "successes and failures: expected equal shapes"),
        ({"successes": [-1], "failures": [1]}, "expected counts of at least 0"),
        ({"successes": [np.nan], "failures": [1]}, "expected counts of at least 0"),
        ({"successes": [1, 1], "failures": [1, 1], "floor": 0.6}, "floor: expected 0 to 1 / 2"),
        ({"successes": [1], "failures": [1], "draws": 0}, "draws: expected"),
        ({"successes": [1], "failures": [1], "seed": -1}, "seed: expected"),
        ({"successes": [1], "failures": [1], "prior": (0.0, 1.0)}, "prior: expected"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        thompson_weights(**({"seed": 0} | arguments))
