"""What runs batches on an NVIDIA GPU, behind `core.ports.Executor`. `executor.py` comes first.

`device.py` is all that is wanted of CUDA, `torch_device.py` the real one; everything else is tested
without a GPU against a device whose streams run late or early as the test likes.
"""
