"""What the two Python echo servers share: the answer to one request, and a count of the answers.

They work on the protobuf objects of the stock client, as a hand-written gRPC server does.
"""

from collections import Counter

from tritonclient.grpc import service_pb2


class Echo:
    """Answers ModelInfer with its own input, and counts, so that a load can be checked."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()

    def infer(self, request: service_pb2.ModelInferRequest) -> service_pb2.ModelInferResponse:
        """The first input of the request as OUTPUT0, raw."""
        given = request.inputs[0]
        response = service_pb2.ModelInferResponse(
            model_name=request.model_name, model_version="1", id=request.id
        )
        response.outputs.add(name="OUTPUT0", datatype=given.datatype, shape=given.shape)
        response.raw_output_contents.append(request.raw_input_contents[0])
        self.answers[request.model_name] += 1
        return response

    def statistics(
        self, request: service_pb2.ModelStatisticsRequest
    ) -> service_pb2.ModelStatisticsResponse:
        """ModelStatistics with the one figure that the benchmark reads, success.count."""
        response = service_pb2.ModelStatisticsResponse()
        model = response.model_stats.add(name=request.name, version="1")
        model.inference_stats.success.count = self.answers[request.name]
        return response
