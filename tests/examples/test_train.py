"""Both versions learn, do so alike on every run, and mean the same as TorchScript."""

from pathlib import Path

import numpy as np
import pytest
import torch
from data import CATEGORIES, FEATURES, Flights, training_split
from model import LateFlight
from scores import auc
from train import RECIPES, predict, save_torchscript, to_torchscript, train


@pytest.fixture(scope="module")
def third(flights: Flights) -> Flights:
    training, _, _ = training_split(flights)
    return training.where(np.arange(0, len(training), 3))


@pytest.fixture(scope="module")
def models(third: Flights) -> dict[str, LateFlight]:
    return {version: train(recipe, third) for version, recipe in RECIPES.items()}


@pytest.mark.parametrize("version", RECIPES)
def test_a_third_of_the_data_teaches_to_rank_days_never_seen(
    flights: Flights, models: dict[str, LateFlight], version: str
):
    _, holdout, later = training_split(flights)
    assert auc(holdout.late, predict(models[version], holdout)) > 0.68
    assert auc(later.late, predict(models[version], later)) > 0.65


def test_two_runs_give_the_same_model(third: Flights):
    few = third.where(np.arange(2_000))
    first, second = (predict(train(RECIPES["2"], few), few) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("version", RECIPES)
@pytest.mark.parametrize("rows", [1, 2, 64])
def test_saved_torchscript_answers_what_the_module_answers(
    flights: Flights, models: dict[str, LateFlight], version: str, rows: int, tmp_path: Path
):
    model = models[version]
    features = torch.from_numpy(flights.features[1_000 : 1_000 + rows])
    save_torchscript(to_torchscript(model, features[:2]), tmp_path / "model.pt")
    loaded = torch.jit.freeze(torch.jit.load(str(tmp_path / "model.pt")).eval())
    with torch.inference_mode():
        torch.testing.assert_close(loaded(features), model(features))
        assert loaded(features).shape == (rows, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1.0])
@pytest.mark.parametrize("column", range(len(FEATURES)))
def test_any_value_in_any_feature_still_gives_a_probability(
    flights: Flights, models: dict[str, LateFlight], column: int, value: float
):
    features = torch.from_numpy(flights.features[:1].copy())
    features[0, column] = value
    with torch.inference_mode():
        probability = models["2"](features).item()
    assert 0.0 <= probability <= 1.0


def test_a_missing_number_counts_as_the_mean_and_is_flagged(models: dict[str, LateFlight]):
    encoder = models["1"].encoder
    features = torch.zeros(1, len(FEATURES))
    features[0, len(CATEGORIES) :] = encoder.mean
    missing = features.clone()
    missing[0, FEATURES.index("pressure_mbar")] = torch.nan
    known, unknown = encoder(features), encoder(missing)
    assert (known != unknown).sum() == 1
    assert unknown.sum() == pytest.approx(known.sum().item() + 1, abs=1e-4)
