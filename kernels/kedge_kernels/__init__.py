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
    from kedge_kernels.categories import CategoryReference as CategoryReference
    from kedge_kernels.categories import CategorySketch as CategorySketch
    from kedge_kernels.categories import merge_categories as merge_categories
    from kedge_kernels.categories import update_categories as update_categories
    from kedge_kernels.confidence_sequences import AsymptoticSequence as AsymptoticSequence
    from kedge_kernels.confidence_sequences import (
        EmpiricalBernsteinSequence as EmpiricalBernsteinSequence,
    )
    from kedge_kernels.count_tests import chi2_p_values as chi2_p_values
    from kedge_kernels.count_tests import chi2_two_sample as chi2_two_sample
    from kedge_kernels.count_tests import g_test as g_test
    from kedge_kernels.count_tests import ks_binned as ks_binned
    from kedge_kernels.count_tests import psi_test as psi_test
    from kedge_kernels.count_tests import psi_threshold as psi_threshold
    from kedge_kernels.ddm import Ddm as Ddm
    from kedge_kernels.ddm import Eddm as Eddm
    from kedge_kernels.detectors import Detectors as Detectors
    from kedge_kernels.detectors import detectors_step as detectors_step
    from kedge_kernels.detectors import join_states as join_states
    from kedge_kernels.detectors import split_states as split_states
    from kedge_kernels.divergence import BINNED_STATS as BINNED_STATS
    from kedge_kernels.divergence import binned_stats as binned_stats
    from kedge_kernels.divergence import hellinger as hellinger
    from kedge_kernels.divergence import js as js
    from kedge_kernels.divergence import kl as kl
    from kedge_kernels.divergence import psi as psi
    from kedge_kernels.e_detectors import ECusum as ECusum
    from kedge_kernels.e_detectors import ESr as ESr
    from kedge_kernels.e_detectors import mean_upper_bound as mean_upper_bound
    from kedge_kernels.evidently_definitions import evidently_chi2 as evidently_chi2
    from kedge_kernels.evidently_definitions import evidently_hellinger as evidently_hellinger
    from kedge_kernels.evidently_definitions import evidently_js as evidently_js
    from kedge_kernels.evidently_definitions import evidently_kl as evidently_kl
    from kedge_kernels.evidently_definitions import evidently_psi as evidently_psi
    from kedge_kernels.evidently_definitions import evidently_wasserstein as evidently_wasserstein
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
    from kedge_kernels.multiple import benjamini_hochberg as benjamini_hochberg
    from kedge_kernels.multiple import benjamini_yekutieli as benjamini_yekutieli
    from kedge_kernels.multiple import e_bh as e_bh
    from kedge_kernels.multivariate import ClassifierDrift as ClassifierDrift
    from kedge_kernels.multivariate import MmdDrift as MmdDrift
    from kedge_kernels.multivariate import PcaDrift as PcaDrift
    from kedge_kernels.multivariate import PcaReference as PcaReference
    from kedge_kernels.multivariate import classifier_two_sample as classifier_two_sample
    from kedge_kernels.multivariate import mmd_linear as mmd_linear
    from kedge_kernels.multivariate import pca_drift as pca_drift
    from kedge_kernels.page_hinkley import PageHinkley as PageHinkley
    from kedge_kernels.quantiles import QuantileSketch as QuantileSketch
    from kedge_kernels.ranking import BinnedRanking as BinnedRanking
    from kedge_kernels.ranking import auprc as auprc
    from kedge_kernels.ranking import auroc as auroc
    from kedge_kernels.sample_tests import anderson_darling as anderson_darling
    from kedge_kernels.sample_tests import cramer_von_mises as cramer_von_mises
    from kedge_kernels.sample_tests import ks_2samp as ks_2samp
    from kedge_kernels.sample_tests import ks_w1_exact as ks_w1_exact
    from kedge_kernels.sample_tests import sorted_columns as sorted_columns
    from kedge_kernels.sample_tests import wasserstein_1d as wasserstein_1d
    from kedge_kernels.scores import Accuracy as Accuracy
    from kedge_kernels.scores import Brier as Brier
    from kedge_kernels.scores import CalibrationError as CalibrationError
    from kedge_kernels.scores import LogLoss as LogLoss
    from kedge_kernels.scores import MeanAbsoluteError as MeanAbsoluteError
    from kedge_kernels.scores import Pinball as Pinball
    from kedge_kernels.scores import RootMeanSquaredError as RootMeanSquaredError
    from kedge_kernels.sketch import Reference as Reference
    from kedge_kernels.sketch import Sketch as Sketch
    from kedge_kernels.sketch import merge as merge
    from kedge_kernels.sketch import update as update
    from kedge_kernels.sketch_arrow import sketch_from_arrow as sketch_from_arrow
    from kedge_kernels.sketch_arrow import sketch_to_arrow as sketch_to_arrow
    from kedge_kernels.warming import warm as warm
    from kedge_kernels.warming import warm_steps as warm_steps
    from kedge_kernels.windows import Windows as Windows

# Where each public name stands; a type checker reads the imports above, which say the same.
_EXPORTS = {
    "AbsoluteGuard": "guards",
    "Accuracy": "scores",
    "Adwin": "adwin",
    "AsymptoticSequence": "confidence_sequences",
    "BINNED_STATS": "divergence",
    "BadEventGuard": "guards",
    "BinnedRanking": "ranking",
    "Brier": "scores",
    "CalibrationError": "scores",
    "CategoryReference": "categories",
    "CategorySketch": "categories",
    "Cbpe": "few_labels",
    "ClassifierDrift": "multivariate",
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
    "MmdDrift": "multivariate",
    "PageHinkley": "page_hinkley",
    "PairedGuard": "guards",
    "PcaDrift": "multivariate",
    "PcaReference": "multivariate",
    "Pinball": "scores",
    "PlattCalibrator": "calibration",
    "PpiMean": "few_labels",
    "QuantileSketch": "quantiles",
    "Reference": "sketch",
    "RootMeanSquaredError": "scores",
    "SampleRatioGuard": "guards",
    "Sketch": "sketch",
    "Windows": "windows",
    "anderson_darling": "sample_tests",
    "auprc": "ranking",
    "auroc": "ranking",
    "benjamini_hochberg": "multiple",
    "benjamini_yekutieli": "multiple",
    "binned_stats": "divergence",
    "chi2_p_values": "count_tests",
    "chi2_two_sample": "count_tests",
    "classifier_two_sample": "multivariate",
    "cramer_von_mises": "sample_tests",
    "detectors_step": "detectors",
    "e_bh": "multiple",
    "evidently_chi2": "evidently_definitions",
    "evidently_hellinger": "evidently_definitions",
    "evidently_js": "evidently_definitions",
    "evidently_kl": "evidently_definitions",
    "evidently_psi": "evidently_definitions",
    "evidently_wasserstein": "evidently_definitions",
    "g_test": "count_tests",
    "hellinger": "divergence",
    "join_states": "detectors",
    "js": "divergence",
    "kl": "divergence",
    "ks_2samp": "sample_tests",
    "ks_binned": "count_tests",
    "ks_w1_exact": "sample_tests",
    "mean_upper_bound": "e_detectors",
    "merge": "sketch",
    "merge_categories": "categories",
    "mmd_linear": "multivariate",
    "pca_drift": "multivariate",
    "psi": "divergence",
    "psi_test": "count_tests",
    "psi_threshold": "count_tests",
    "sketch_from_arrow": "sketch_arrow",
    "sketch_to_arrow": "sketch_arrow",
    "sorted_columns": "sample_tests",
    "split_states": "detectors",
    "thompson_weights": "bandit",
    "update": "sketch",
    "update_categories": "categories",
    "warm": "warming",
    "warm_steps": "warming",
    "wasserstein_1d": "sample_tests",
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
