import json
import math

import pytest
from _checks import Check, check_table, exit_code, figure


@pytest.mark.parametrize(
    ("at_least", "measured", "reached"),
    [(False, 2.0, True), (False, 2.001, False), (True, 2.0, True), (True, 1.999, False)],
)
def test_bound_itself_is_kept_and_what_is_just_beyond_is_not(at_least, measured, reached):
    assert Check("", measured, 2.0, at_least=at_least).reached is reached


def test_figure_that_could_not_be_measured_is_never_reached():
    assert not Check("", math.nan, 2.0).reached
    assert not Check("", math.nan, 2.0, at_least=True).reached


def test_table_has_the_bound_the_figure_and_a_verdict_per_line():
    lines = check_table([Check("a", 1.5, 2.0, "ms"), Check("b", 0.5, 0.9, at_least=True)])
    assert lines.splitlines()[2:] == [
        "| a | ≤ 2 ms | 1.5 ms | reached |",
        "| b | ≥ 0.9 | 0.5 | **missed** |",
    ]


def test_one_missed_check_is_a_failure_of_the_run():
    assert exit_code([Check("a", 1, 2), Check("b", 1, 2)]) == 0
    assert exit_code([Check("a", 1, 2), Check("b", 3, 2)]) == 1


def test_check_goes_into_the_results_file_with_its_verdict():
    row = json.loads(json.dumps(Check("a", 3.0, 2.0, "MB").row()))
    assert row == {
        "text": "a",
        "measured": 3.0,
        "bound": 2.0,
        "unit": "MB",
        "at_least": False,
        "reached": False,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.8999, "0.9"), (2.456, "2.46"), (12.34, "12.3"), (1234.5, "1,234"), (-3, "-3")],
)
def test_figures_have_three_digits_that_count(value, text):
    assert figure(value) == text
