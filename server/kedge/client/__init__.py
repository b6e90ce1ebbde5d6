"""The Python client: `kedge.connect("host:8001").predict(name, {column: array})`."""

from kedge.client.connection import Client, connect
from kedge.client.errors import KedgeError
from kedge.client.prediction import Prediction

__all__ = ["Client", "KedgeError", "Prediction", "connect"]
