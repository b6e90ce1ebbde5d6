"""Models written for Triton's Python backend: `class TritonPythonModel` in a `model.py`."""
