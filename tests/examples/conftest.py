"""Makes the flight example importable, and reads its data once."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples" / "flights"))

from data import Flights, load_flights


@pytest.fixture(scope="session")
def flights() -> Flights:
    return load_flights()
