"""Slow, obvious twins of the drift tests: the definitions, term by term, in plain Python."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from decimal import Context, Decimal, localcontext
from fractions import Fraction


def shares(counts: Sequence[float], eps: float = 0.0) -> list[float]:
    total = math.fsum(counts)
    return [max(count / total, eps) if total else math.nan for count in counts]


def slow_psi(expected: Sequence[float], observed: Sequence[float], eps: float = 0.0) -> float:
    p, q = shares(expected, eps), shares(observed, eps)
    return slow_kl_of(p, q) + slow_kl_of(q, p)


def slow_kl(expected: Sequence[float], observed: Sequence[float], eps: float = 0.0) -> float:
    return slow_kl_of(shares(expected, eps), shares(observed, eps))


def slow_kl_of(p: Sequence[float], q: Sequence[float]) -> float:
    terms = []
    for left, right in zip(p, q, strict=True):
        if left > 0:
            terms.append(left * math.log(left / right) if right > 0 else math.inf)
        elif math.isnan(left) or math.isnan(right):
            return math.nan
    return math.fsum(terms)


def slow_js(expected: Sequence[float], observed: Sequence[float], eps: float = 0.0) -> float:
    p, q = shares(expected, eps), shares(observed, eps)
    middle = [(left + right) / 2 for left, right in zip(p, q, strict=True)]
    return (slow_kl_of(p, middle) + slow_kl_of(q, middle)) / 2


def slow_hellinger(expected: Sequence[float], observed: Sequence[float], eps: float = 0.0) -> float:
    pairs = zip(shares(expected, eps), shares(observed, eps), strict=True)
    return math.sqrt(math.fsum((math.sqrt(p) - math.sqrt(q)) ** 2 for p, q in pairs) / 2)


def slow_homogeneity(a: Sequence[int], b: Sequence[int]) -> tuple[float, float, int]:
    """(chi-squared, G, degrees of freedom) from a table of expected counts, with 60 digits."""
    total = sum(a) + sum(b)
    chi2, g, bins = Fraction(0), Decimal(0), 0
    with localcontext(Context(prec=60)):
        for column in zip(a, b, strict=True):
            bins += sum(column) > 0
            for count, side in zip(column, (sum(a), sum(b)), strict=True):
                expected = Fraction(sum(column) * side, total)
                if expected > 0:
                    chi2 += (count - expected) ** 2 / expected
                if count > 0:
                    ratio = Decimal(count * expected.denominator) / Decimal(expected.numerator)
                    g += 2 * count * ratio.ln()
    return float(chi2), float(g), bins - 1


def distribution(sample: Sequence[float], at: float) -> Fraction:
    return Fraction(sum(value <= at for value in sample), len(sample))


def slow_ks(a: Sequence[float], b: Sequence[float]) -> Fraction:
    return max(abs(distribution(a, at) - distribution(b, at)) for at in [*a, *b])


def slow_wasserstein(a: Sequence[float], b: Sequence[float]) -> float:
    points = sorted({*a, *b})
    return math.fsum(
        float(abs(distribution(a, left) - distribution(b, left))) * (right - left)
        for left, right in itertools.pairwise(points)
    )


def slow_ks_p_value(statistic: Fraction, n: int, m: int) -> float:
    """The share of all orders of n and m values whose statistic is at least this one."""
    orders = list(itertools.combinations(range(n + m), n))
    count = 0
    for places in orders:
        others = [place for place in range(n + m) if place not in places]
        count += slow_ks(places, others) >= statistic
    return count / len(orders)


def slow_cvm(a: Sequence[float], b: Sequence[float]) -> float:
    """Without ties: the sum of squared differences of the distribution functions."""
    n, m = len(a), len(b)
    squares = sum((distribution(a, at) - distribution(b, at)) ** 2 for at in [*a, *b])
    return float(Fraction(n * m, (n + m) ** 2) * squares)


def slow_cvm_p_value(a: Sequence[float], b: Sequence[float]) -> float:
    """The share of all orders whose statistic is at least that of a and b (without ties)."""
    n, m = len(a), len(b)
    least = slow_cvm(a, b) - 1e-12
    orders = list(itertools.combinations(range(n + m), n))
    count = 0
    for places in orders:
        others = [place for place in range(n + m) if place not in places]
        count += slow_cvm(places, others) >= least
    return count / len(orders)


def slow_benjamini_hochberg(p_values: Sequence[float], alpha: float) -> list[bool]:
    tests = sum(not math.isnan(p) for p in p_values)
    believed = [
        p
        for p in p_values
        if not math.isnan(p) and p <= sum(other <= p for other in p_values) / tests * alpha
    ]
    return [not math.isnan(p) and p <= max(believed, default=-1) for p in p_values]


def slow_mmd(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], width: float
) -> list[float]:
    """Gretton et al. 2012, lemma 14: h of every two rows."""

    def k(x: Sequence[float], y: Sequence[float]) -> float:
        return math.exp(-sum((p - q) ** 2 for p, q in zip(x, y, strict=True)) / (2 * width**2))

    pairs = range(0, min(len(first), len(second)) // 2 * 2, 2)
    return [
        k(first[i], first[i + 1])
        + k(second[i], second[i + 1])
        - k(first[i], second[i + 1])
        - k(first[i + 1], second[i])
        for i in pairs
    ]
