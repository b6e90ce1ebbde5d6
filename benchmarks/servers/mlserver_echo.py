"""The peer MLServer: a runtime that answers each request with its own input.

The tensor's data is handed back as MLServer decoded it: a codec to NumPy and back would cost more.
"""

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Echo(MLModel):
    """One model; its name stands in its model-settings.json."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The first input as OUTPUT0."""
        given = payload.inputs[0]
        output = ResponseOutput(
            name="OUTPUT0", datatype=given.datatype, shape=given.shape, data=given.data
        )
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=[output])
