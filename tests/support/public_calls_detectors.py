"""Every public detector, guard, interval and score, called with every kind of argument."""

from __future__ import annotations

from typing import Any

import numpy as np

import kedge_kernels as kk


def call_everything() -> None:
    """Lists, other types, read-only arrays and views: what a kernel would be compiled for, if the
    public function did not make one kind of array of them all.
    """
    numbers = np.array([0.0, 1.0, 1.0, 0.0])
    frozen = numbers.copy()
    frozen.setflags(write=False)
    kinds: list[Any] = [
        numbers,
        frozen,
        numbers.tolist(),
        numbers.astype(np.float32),
        numbers.astype(np.int8),
        numbers.astype(bool),
        np.repeat(numbers, 2)[::2],
    ]
    for values in kinds:
        _detectors(values)
        _evidence(values)
        _scores(values)


def _detectors(values: Any) -> None:
    made = [
        *(kk.Adwin(), kk.PageHinkley(), kk.Ddm(), kk.Eddm(), kk.HddmA(), kk.HddmW()),
        *(kk.Kswin(seed=1), kk.ECusum(0.1), kk.ESr.from_reference(values)),
    ]
    for detector in made:
        detector.update(values)
        detector.reset()
    states = kk.join_states(made[:4])
    assert kk.detectors_step(values, states).shape == (4,)
    assert len(kk.split_states(states)) == 4
    kk.Detectors.from_bytes(kk.Detectors(made[5:]).to_bytes()).step(values)
    assert kk.mean_upper_bound(0.1, 10, 0.9) > 0.1


def _evidence(values: Any) -> None:
    for guard in (kk.BadEventGuard(0.1), kk.SampleRatioGuard(0.1)):
        guard.update(values, 0.5)
        guard.update(values, values)
        assert guard.log_e_value < 5
    kk.AbsoluteGuard(0.1, 0.1).update(values)
    kk.PairedGuard(0.1).update(values, values)
    for sequence in (kk.EmpiricalBernsteinSequence(0.1), kk.AsymptoticSequence(0.1)):
        sequence.update(values)
        assert sequence.interval()[0] <= 0
    test, cuped, ppi = kk.MixtureSprt(1.0), kk.Cuped(), kk.PpiMean(0.1)
    test.update(values, values)
    cuped.update(values, values)
    ppi.update_unlabelled(values)
    ppi.update_labelled(values, values)
    assert kk.thompson_weights(values, values, seed=1).shape == (4,)
    for calibrator in (kk.IsotonicCalibrator(values, values), kk.PlattCalibrator(values, values)):
        estimate = kk.Cbpe(calibrator)
        estimate.update(values)
        assert isinstance(estimate.confusion, kk.ExpectedConfusion)


def _scores(values: Any) -> None:
    scores = [
        *(kk.Accuracy(), kk.Brier(), kk.CalibrationError(), kk.LogLoss(), kk.MeanAbsoluteError()),
        *(kk.Pinball(0.9), kk.RootMeanSquaredError()),
    ]
    for score in scores:
        score.update(values, values)
        assert score.value in {0.0, 1.0} or score.value < 1e-9
    ranking = kk.BinnedRanking()
    ranking.update(values, values)
    assert (ranking.auroc, ranking.auprc) == (1.0, 1.0)
    assert kk.auroc(values, values) == kk.auprc(values, values) == 1.0
