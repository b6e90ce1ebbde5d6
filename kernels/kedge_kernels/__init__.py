"""Statistics of drift, detectors, evidence and scores at the speed of memory, and the hot loops of
the server, in Numba: arrays in, arrays out. Knows no server.

Names load their module when first used, so that `import kedge_kernels` itself costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kedge_kernels.adwin import Adwin as Adwin
    from kedge_kernels.bandit import thompson_weights as thompson_weights
    from kedge_kernels.calibration import IsotonicCalibrator as IsotonicCalibrator
    from kedge_kernels.calibration import PlattCalibrator as PlattCalibrator
    from kedge_kernels.confidence_sequences import AsymptoticSequence as AsymptoticSequence
    from kedge_kernels.confidence_sequences import (
        EmpiricalBernsteinSequence as EmpiricalBernsteinSequence,
    )
    from kedge_kernels.ddm import Ddm as Ddm
    from kedge_kernels.ddm import Eddm as Eddm
    from kedge_kernels.detectors import Detectors as Detectors
    from kedge_kernels.detectors import detectors_step as detectors_step
    from kedge_kernels.detectors import join_states as join_states
    from kedge_kernels.detectors import split_states as split_states
    from kedge_kernels.e_detectors import ECusum as ECusum
    from kedge_kernels.e_detectors import ESr as ESr
    from kedge_kernels.e_detectors import mean_upper_bound as mean_upper_bound
    from kedge_kernels.few_labels import Cbpe as Cbpe
    from kedge_kernels.few_labels import ExpectedConfusion as ExpectedConfusion
    from kedge_kernels.few_labels import PpiMean as PpiMean
    from kedge_kernels.guards import AbsoluteGuard as AbsoluteGuard
    from kedge_kernels.guards import BadEventGuard as BadEventGuard
    from kedge_kernels.guards import PairedGuard as PairedGuard
    from kedge_kernels.guards import SampleRatioGuard as SampleRatioGuard
    from kedge_kernels.hddm import HddmA as HddmA
    from kedge_kernels.hddm import HddmW as HddmW
    from kedge_kernels.kswin import Kswin as Kswin
    from kedge_kernels.mean_difference import Cuped as Cuped
    from kedge_kernels.mean_difference import MixtureSprt as MixtureSprt
    from kedge_kernels.page_hinkley import PageHinkley as PageHinkley
    from kedge_kernels.ranking import BinnedRanking as BinnedRanking
    from kedge_kernels.ranking import auprc as auprc
    from kedge_kernels.ranking import auroc as auroc
    from kedge_kernels.scores import Accuracy as Accuracy
    from kedge_kernels.scores import Brier as Brier
    from kedge_kernels.scores import CalibrationError as CalibrationError
    from kedge_kernels.scores import LogLoss as LogLoss
    from kedge_kernels.scores import MeanAbsoluteError as MeanAbsoluteError
    from kedge_kernels.scores import Pinball as Pinball
    from kedge_kernels.scores import RootMeanSquaredError as RootMeanSquaredError
    from kedge_kernels.warming import warm as warm

# Where each public name stands; a type checker reads the imports above, which say the same.
_EXPORTS = {
    "AbsoluteGuard": "guards",
    "Accuracy": "scores",
    "Adwin": "adwin",
    "AsymptoticSequence": "confidence_sequences",
    "BadEventGuard": "guards",
    "BinnedRanking": "ranking",
    "Brier": "scores",
    "CalibrationError": "scores",
    "Cbpe": "few_labels",
    "Cuped": "mean_difference",
    "Ddm": "ddm",
    "Detectors": "detectors",
    "ECusum": "e_detectors",
    "ESr": "e_detectors",
    "Eddm": "ddm",
    "EmpiricalBernsteinSequence": "confidence_sequences",
    "ExpectedConfusion": "few_labels",
    "HddmA": "hddm",
    "HddmW": "hddm",
    "IsotonicCalibrator": "calibration",
    "Kswin": "kswin",
    "LogLoss": "scores",
    "MeanAbsoluteError": "scores",
    "MixtureSprt": "mean_difference",
    "PageHinkley": "page_hinkley",
    "PairedGuard": "guards",
    "Pinball": "scores",
    "PlattCalibrator": "calibration",
    "PpiMean": "few_labels",
    "RootMeanSquaredError": "scores",
    "SampleRatioGuard": "guards",
    "auprc": "ranking",
    "auroc": "ranking",
    "detectors_step": "detectors",
    "join_states": "detectors",
    "mean_upper_bound": "e_detectors",
    "split_states": "detectors",
    "thompson_weights": "bandit",
    "warm": "warming",
}

__all__ = sorted(_EXPORTS)  # noqa: PLE0605 - a list of str, made from the table


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'kedge_kernels' has no attribute {name!r}")
    value = getattr(import_module(f"kedge_kernels.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
