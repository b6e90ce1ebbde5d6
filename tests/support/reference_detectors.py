"""The detectors' slow, obvious twins: lists and whole formulas, one value at a time.

Each answers True for a detection and starts anew at the next value. They round as the formulas are
written, so that close calls may differ from the kernels; the kernels' roundings have their own
oracle, river.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable

import numpy as np
from scipy.stats import ks_2samp


def positions(step: Callable[[], Callable[[float], bool]], values: Iterable[float]) -> list[int]:
    """Where a detector that starts anew after each detection detects."""
    found = []
    detect = step()
    for i, x in enumerate(values):
        if detect(x):
            found.append(i)
            detect = step()
    return found


def adwin(delta: float = 0.002) -> Callable[[float], bool]:
    """ADWIN2 with whole lists of values as buckets."""
    rows: list[list[list[float]]] = [[]]
    ticks = 0

    def insert(x: float) -> None:
        rows[0].append([x])
        for level, row in enumerate(rows):
            if len(row) == 6:
                joined = row.pop(0) + row.pop(0)
                if level + 1 == len(rows):
                    rows.append([])
                rows[level + 1].append(joined)

    def cuts() -> bool:
        buckets = [bucket for row in reversed(rows) for bucket in row]
        window = [x for bucket in buckets for x in bucket]
        variance = float(np.var(window))
        share = math.log(2 * math.log(len(window)) / delta)
        n = 0
        for bucket in buckets[:-1]:
            n += len(bucket)
            old, new = window[:n], window[n:]
            if len(old) < 5 or len(new) < 5:
                continue
            inverse = 1 / (len(old) - 4) + 1 / (len(new) - 4)
            bound = math.sqrt(2 * inverse * variance * share) + 2 / 3 * share * inverse
            if abs(np.mean(old) - np.mean(new)) > bound:
                return True
        return False

    def detect(x: float) -> bool:
        nonlocal ticks
        ticks += 1
        insert(x)
        return ticks % 32 == 0 and ticks > 10 and cuts()

    return detect


def page_hinkley(threshold: float = 50.0) -> Callable[[float], bool]:
    """Both sums of Page-Hinkley as lists."""
    values: list[float] = []
    ups, downs = [0.0], [0.0]

    def detect(x: float) -> bool:
        values.append(x)
        off = x - math.fsum(values) / len(values)
        ups.append(0.9999 * ups[-1] + off - 0.005)
        downs.append(0.9999 * downs[-1] + off + 0.005)
        rise = ups[-1] - min(ups[1:])
        fall = max(-1.0, *downs[1:]) - downs[-1]
        return len(values) >= 30 and (rise > threshold or fall > threshold)

    return detect


def ddm() -> Callable[[float], bool]:
    """DDM by all error rates so far."""
    values: list[float] = []
    history: list[tuple[float, float, float]] = []

    def detect(x: float) -> bool:
        values.append(x)
        if len(values) <= 30:
            return False
        rate = math.fsum(values) / len(values)
        spread = math.sqrt(max(rate * (1 - rate), 0) / len(values))
        history.append((rate + spread, rate, spread))
        _, least_rate, least_spread = min(history)
        return rate + spread > least_rate + 3 * least_spread + 1e-12

    return detect


def eddm() -> Callable[[float], bool]:
    """EDDM by all distances so far."""
    distances: list[int] = []
    reaches: list[float] = []
    count, last = 0, 0

    def detect(x: float) -> bool:
        nonlocal count, last
        count += 1
        if x != 1:
            return False
        distances.append(count - last)
        last = count
        if count <= 30:
            return False
        spread = float(np.std(distances, ddof=1)) if len(distances) > 1 else 0.0
        reach = float(np.mean(distances)) + 2 * spread
        reaches.append(reach)
        return reach < max(reaches) and len(distances) > 30 and reach / max(reaches) < 0.9

    return detect


def hddm_a() -> Callable[[float], bool]:
    """HDDM_A, one-sided, by the means of all prefixes."""
    values: list[float] = []
    least = (0.0, 0.0, 0)

    def detect(x: float) -> bool:
        nonlocal least
        values.append(x)
        n = len(values)
        mean = math.fsum(values) / n
        upper = mean + math.sqrt(math.log(1000) / (2 * n))
        if n == 1 or least[0] >= upper:
            least = (upper, mean, n)
        cut = least[2]
        if cut == n:
            return False
        return mean - least[1] >= math.sqrt((n - cut) / (cut * n) / 2 * math.log(2000))

    return detect


def hddm_w() -> Callable[[float], bool]:
    """HDDM_W, one-sided, by explicit weights."""
    values: list[float] = []
    cut, cut_bound = 0, math.inf

    def weighted(part: list[float]) -> tuple[float, float]:
        weights = [0.05 * 0.95 ** (len(part) - 1 - i) for i in range(len(part))]
        weights[0] = 0.95 ** (len(part) - 1)
        squares = 1.0
        for _ in part:
            squares = 0.05**2 + 0.95**2 * squares
        return math.fsum(w * x for w, x in zip(weights, part, strict=True)), squares

    def detect(x: float) -> bool:
        nonlocal cut, cut_bound
        values.append(x)
        mean, squares = weighted(values)
        bound = mean + math.sqrt(squares * math.log(1000) / 2)
        if bound < cut_bound:
            cut, cut_bound = len(values), bound
            return False
        before, before_squares = weighted(values[:cut])
        after, after_squares = weighted(values[cut:])
        limit = math.sqrt((before_squares + after_squares) * math.log(1000) / 2)
        return after - before > limit

    return detect


def kswin(seed: int) -> Callable[[float], bool]:
    """KSWIN by SciPy's test and Python's generator."""
    values: list[float] = []
    rng = random.Random(seed)

    def detect(x: float) -> bool:
        values.append(x)
        if len(values) < 100:
            return False
        window = values[-100:]
        drawn = [window[i] for i in rng.sample(range(70), 30)]
        statistic, chance = ks_2samp(drawn, window[70:])
        return bool(chance <= 0.005 and statistic > 0.1)

    return detect


def e_detector(
    rate: float, alarm: float, worse: list[float], sums: bool
) -> Callable[[float], bool]:
    """e-CUSUM and e-SR by definition: likelihood ratios multiplied from every beginning on."""
    values: list[float] = []

    def detect(x: float) -> bool:
        values.append(x)
        total = 0.0
        for other in worse:
            stake = (other - rate) / (rate * (1 - rate))
            products = []
            product = 1.0
            for past in reversed(values):
                product *= 1 + stake * (past - rate)
                products.append(product)
            total += sum(products) if sums else max(products)
        return total / len(worse) >= alarm

    return detect
