"""Messages of every protocol that Kedge speaks, and the paths of its methods.

The classes are ordinary protobuf ones, apart from tritonclient's: pass bytes between the two, not
objects. The hot path does not use them, it reads the wire format itself.
"""

from kedge.proto._messages import *  # noqa: F403

INFERENCE_SERVICE = "/inference.GRPCInferenceService/"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
CONTROL_METRICS = "/kedge.control.v1.Control/Metrics"
