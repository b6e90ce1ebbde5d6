"""Random plans and requests, good and bad, for the codec's tests and its fuzz driver."""

from __future__ import annotations

from random import Random

from tritonclient.grpc.service_pb2 import ModelInferRequest

from kedge_kernels.codec import InputPlan, RequestPlan

ITEM_BYTES = {"BOOL": 1, "INT8": 1, "FP16": 2, "FP32": 4, "INT64": 8}
MODEL_NAMES = ("m", "model", "a longer name than that", "größer")
TENSOR_NAMES = ("x", "y", "input", "INPUT0", "INPUT1", "ein_Maß")
IDS = ("", "1", "7d3f1c5e-8a44-4f0e-9a5b-0d9a2f1f6f11", "x" * 200)

# One plan with a fixed and a free dimension, for tests that count bytes.
PLAN = RequestPlan(
    name="m",
    version=3,
    newest=True,
    inputs=(InputPlan("x", "FP32", 4, (2,)), InputPlan("y", "INT8", 1, (-1, 3))),
    outputs=("a", "b"),
    batched=True,
    rows_max=4,
)


def plain_request(rows: int = 2, free: int = 5) -> ModelInferRequest:
    """A good request for PLAN; free: the size of its free dimension."""
    request = ModelInferRequest(model_name="m", id="7")
    request.inputs.add(name="x", datatype="FP32", shape=[rows, 2])
    request.inputs.add(name="y", datatype="INT8", shape=[rows, free, 3])
    request.raw_input_contents.extend((bytes(rows * 8), bytes(rows * free * 3)))
    return request


def random_plans(random: Random, bytes_share: float = 0.0) -> list[RequestPlan]:
    """One to four plans, some of one name. bytes_share: of the inputs are BYTES, 0..1."""
    plans = []
    for name in random.sample(MODEL_NAMES, random.randint(1, 2)):
        versions = random.sample((1, 2, 7, 10, 123456789), random.randint(1, 2))
        newest = random.choice((max(versions), 0))
        for version in versions:
            plans.append(_random_plan(random, name, version, version == newest, bytes_share))
    return plans


def _random_plan(
    random: Random, name: str, version: int, newest: bool, bytes_share: float
) -> RequestPlan:
    # 150 and 300 take two bytes on the wire; not both, or the messages grow to megabytes.
    rows_max = random.choice((1, 3, 150))
    sizes = (-1, 0, 1, 2, 3) if rows_max == 150 else (-1, 0, 1, 2, 300)
    inputs = []
    for tensor in random.sample(TENSOR_NAMES, random.randint(1, 4)):
        datatype, item_bytes = random.choice(list(ITEM_BYTES.items()))
        if random.random() < bytes_share:
            datatype, item_bytes = "BYTES", 0
        dims = tuple(random.choices(sizes, k=random.randint(0, 2)))
        inputs.append(InputPlan(tensor, datatype, item_bytes, dims))
    return RequestPlan(
        name=name,
        version=version,
        newest=newest,
        inputs=tuple(inputs),
        outputs=tuple(random.sample(TENSOR_NAMES, random.randint(0, 4))),
        batched=random.random() < 0.7,
        rows_max=rows_max,
    )


def random_request(random: Random, plan: RequestPlan) -> ModelInferRequest:
    """A good, plain request for a plan without BYTES inputs."""
    version = "" if plan.newest and random.random() < 0.5 else str(plan.version)
    request = ModelInferRequest(model_name=plan.name, model_version=version, id=random.choice(IDS))
    rows = random.choice((1, plan.rows_max)) if plan.batched else 0
    for spec in random.sample(plan.inputs, len(plan.inputs)):
        shape = [random.randint(0, 3) if dim < 0 else dim for dim in spec.dims]
        shape = [rows, *shape] if plan.batched else shape
        size = spec.item_bytes
        for dim in shape:
            size *= dim
        request.inputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
        request.raw_input_contents.append(random.randbytes(size))
    if random.random() < 0.3:
        # As Triton's C++ client, and with it perf_analyzer, does in every request.
        value = random.random() < 0.5
        request.parameters["triton_enable_empty_final_response"].bool_param = value
    for name in random.sample(plan.outputs, random.randint(0, len(plan.outputs))):
        request.outputs.add(name=name)
    return request


def spoiled(random: Random, request: ModelInferRequest) -> bytes:
    """The request with one thing in it that is wrong, unusual, or (rarely) still the same."""
    spoil = random.choice((_spoil_tensor, _spoil_fields, _spoil_names))
    spoil(random, request)
    return bytes(request.SerializeToString())


def _spoil_tensor(random: Random, request: ModelInferRequest) -> None:
    tensor = random.choice(request.inputs)
    match random.randrange(6):
        case 0:
            tensor.datatype = random.choice(("", "FP32", "INT8", "fp32", "FP320"))
        case 1:
            tensor.parameters["shared_memory_region"].string_param = "r"
        case 2:
            tensor.contents.fp32_contents.append(1.0)
        case 3:
            tensor.shape.append(random.choice((-1, 0, 1, 2**31, 2**62, -(2**63))))
        case 4 if tensor.shape:
            axis = random.randrange(len(tensor.shape))
            tensor.shape[axis] = random.choice((-1, 0, 1, 2, 151, 2**31 - 1, 2**32, 2**63 - 1))
        case _ if tensor.shape:
            tensor.shape.pop()


def _spoil_fields(random: Random, request: ModelInferRequest) -> None:
    raws = request.raw_input_contents
    match random.randrange(8):
        case 0:
            raws.append(b"")
        case 1:
            raws.pop()
        case 2:
            raws[0] += b"\0"
        case 3:
            raws[0] = raws[0][:-1]
        case 4:
            raws.insert(0, raws.pop())
        case 5:
            request.parameters["priority"].int64_param = 1
        case 6:
            request.inputs.append(random.choice(request.inputs))
        case 7:
            request.parameters["triton_enable_empty_final_response"].int64_param = 1


def _spoil_names(random: Random, request: ModelInferRequest) -> None:
    match random.randrange(6):
        case 0:
            request.model_name = random.choice((*MODEL_NAMES, "", "M", "mode"))
        case 1:
            request.model_version = random.choice(("0", "01", "1", "-1", "x", "7 ", "9" * 30))
        case 2:
            request.id = random.choice(("ü", "\0", "x" * 3000, "\x7f"))
        case 3:
            random.choice(request.inputs).name = random.choice((*TENSOR_NAMES, ""))
        case 4:
            request.outputs.add(name=random.choice((*TENSOR_NAMES, "", "none")))
        case 5:
            request.outputs.add(name="y").parameters["classification"].int64_param = 1


def mutated(random: Random, payload: bytes) -> bytes:
    """Other bytes: up to four edits of single bytes, ranges or whole fields."""
    message = bytearray(payload)
    for _ in range(random.randint(1, 4)):
        # Faults in the first bytes hit lengths and names; raw contents are longer and dull.
        at = random.randrange(min(len(message), random.choice((30, 200, 10_000))) + 1)
        match random.randrange(8):
            case 0 if at < len(message):
                message[at] ^= 1 << random.randrange(8)
            case 1 if at < len(message):
                message[at] = random.choice((0, 1, 0x0A, 0x12, 0x1A, 0x2A, 0x3A, 0x7F, 0x80, 0xFF))
            case 2:
                message[at:at] = random.randbytes(random.randint(1, 4))
            case 3:
                del message[at : at + random.randint(1, 4)]
            case 4:
                del message[at:]
            case 5:
                message[at:at] = message[: random.randint(0, len(message))]
            case 6:
                # A length one byte longer than need be, or one of ten bytes.
                message[at : at + 1] = bytes((*(message[at : at + 1] or b"\1"), 0))
                message[at] |= 0x80
            case _:
                message = bytearray(_with_moved_field(random, bytes(message)))
    return bytes(message)


def _with_moved_field(random: Random, message: bytes) -> bytes:
    """One top-level field repeated, removed or put elsewhere; the same if it cannot be cut up."""
    fields = []
    rest = message
    while len(rest) > 2 and rest[1] < 0x80:
        fields.append(rest[: 2 + rest[1]])
        rest = rest[2 + rest[1] :]
    if not fields:
        return message
    field = random.choice(fields)
    if random.random() < 0.6:
        fields.remove(field)
    if random.random() < 0.8:
        fields.insert(random.randint(0, len(fields)), field)
    return b"".join(fields) + rest
