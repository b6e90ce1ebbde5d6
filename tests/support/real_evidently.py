"""Evidently itself, as an oracle."""

from __future__ import annotations

import os
from typing import Any

import pandas as pd
from pandas.core.dtypes import common

os.environ["DO_NOT_TRACK"] = "1"  # it reports its use otherwise
if not hasattr(common, "infer_dtype_from_object"):
    # Evidently 0.7 imports this for a test of data types, which pandas 3 no longer has.
    vars(common)["infer_dtype_from_object"] = type


def drift_score(name: str, reference: Any, current: Any, categorical: bool) -> float:
    """What its test `name` answers: a distance or a p-value."""
    from evidently.legacy.calculations.stattests import registry
    from evidently.legacy.core import ColumnType

    kind = ColumnType.Categorical if categorical else ColumnType.Numerical
    test = registry.get_stattest(pd.Series(reference), pd.Series(current), kind, name)
    return float(test(pd.Series(reference), pd.Series(current), kind, 0.1).drift_score)
