"""The gateway from events to answers, with a front and executors that the test moves by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tritonclient.grpc import service_pb2 as pb

from kedge.core.errors import (
    InvalidRequest,
    ModelFailed,
    QueueFull,
    QueueTimeout,
    ServeError,
    ShuttingDown,
    UnknownModel,
    UnparsableMessage,
)
from kedge.core.ports import Call
from kedge.core.settings import BatchLimits, QueueLimits
from kedge.core.values import Catalog, ServedVersion
from kedge.pipeline.serve import Gateway
from support.fakes import DoublingExecutor, FakeClock, FakeFront, catalog_of, served
from support.requests import infer_request, values_of


class Scene:
    """A gateway on fakes. `run` plays what is queued at the front, then stops and drains."""

    def __init__(self, *versions: ServedVersion, queue_bytes_max: int = 1_000_000) -> None:
        self.front = FakeFront()
        self.clock = FakeClock()
        self.calls: list[tuple[int, bytes]] = []
        self.gateway = Gateway(self.front, self._handle, self.clock, queue_bytes_max)
        self.gateway.install(catalog_of(*versions))
        self.script: list[Callable[[], None]] = []

    def _handle(
        self, method: int, payload: bytes, answer: Callable[[bytes | ServeError], None]
    ) -> None:
        self.calls.append((method, payload))
        answer(payload.upper())

    def then(self, step: Callable[[], None]) -> None:
        """When the front has nothing more to deliver, do `step`."""
        self.script.append(step)

    def run(self) -> bool:
        def idle(timeout_ms: int) -> None:
            if timeout_ms == 0:
                self.clock.advance_us(50)
                return
            if self.script:
                self.script.pop(0)()
            else:
                self.gateway.stop()
            self.clock.advance_us(1_000)

        self.front.on_idle = idle
        return self.gateway.run(drain_s_max=1.0)


def request(*values: float, **options: object) -> bytes:
    return infer_request(values=values, **options).SerializeToString()  # type: ignore[arg-type]


def test_what_arrives_together_runs_as_one_batch_and_each_gets_its_own_answer() -> None:
    executor = DoublingExecutor()
    scene = Scene(served(executor))
    scene.front.queue({1: request(1), 2: request(2, 3, request_id="b"), 3: request(4)})
    assert scene.run()
    assert executor.batches == [[1, 2, 3, 4]]
    assert {call: values_of(answer) for call, answer in scene.front.answers.items()} == {
        1: [2],
        2: [4, 6],
        3: [8],
    }
    answer = pb.ModelInferResponse.FromString(scene.front.answers[2])
    assert (answer.model_name, answer.model_version, answer.id) == ("double", "1", "b")
    assert list(answer.outputs[0].shape) == [2, 1]


def test_fast_and_protobuf_requests_share_a_batch() -> None:
    executor = DoublingExecutor()
    version = served(executor)
    scene = Scene(version)
    slow = request(2, parameters={"note": "anything"}, request_id="slow")
    scene.front.queue({1: request(1), 2: slow, 3: request(3)})
    scene.run()
    assert [sorted(batch) for batch in executor.batches] == [[1, 2, 3]]
    assert values_of(scene.front.answers[2]) == [4]
    assert pb.ModelInferResponse.FromString(scene.front.answers[2]).id == "slow"
    assert version.statistics.path_requests == {"fast": 2, "protobuf": 1}


def test_while_a_batch_runs_the_next_one_gathers() -> None:
    executor = DoublingExecutor(is_held=True)
    scene = Scene(served(executor))
    scene.front.queue({1: request(1)})
    scene.then(lambda: scene.front.queue({2: request(2)}))
    scene.then(lambda: scene.front.queue({3: request(3)}))
    scene.then(executor.release)
    scene.then(executor.release)
    scene.run()
    assert executor.batches == [[1], [2, 3]]
    assert values_of(scene.front.answers[3]) == [6]


def test_a_hundred_cancelled_calls_are_never_executed() -> None:
    executor = DoublingExecutor(is_held=True)
    version = served(executor)
    scene = Scene(version)
    scene.front.queue({0: request(0)})
    ids = range(1, 101)
    scene.then(lambda: scene.front.queue({call: request(call) for call in ids}))
    scene.then(lambda: scene.front.queue({101: request(101)}, cancelled=list(ids)))
    scene.then(executor.release)
    scene.then(executor.release)
    scene.run()
    assert executor.batches == [[0], [101]]
    assert set(scene.front.answers) == {0, 101}
    assert version.statistics.failures == {"CANCELED": 100}
    assert version.statistics.requests_pending == 0
    assert scene.gateway.queue_bytes == 0


def test_a_call_cancelled_in_the_drain_that_brought_it_is_not_executed() -> None:
    executor = DoublingExecutor()
    scene = Scene(served(executor))
    scene.front.queue({1: request(1), 2: request(2)}, cancelled=[1])
    scene.run()
    assert executor.batches == [[2]]


def test_a_malformed_request_is_refused_and_its_neighbours_are_untouched() -> None:
    executor = DoublingExecutor()
    version = served(executor)
    scene = Scene(version)
    scene.front.queue(
        {
            1: request(1),
            2: request(2, datatype="INT32", request_id="me"),
            3: b"\xff\xff\xff",
            4: request(4, model="nobody"),
            5: request(5),
        }
    )
    scene.run()
    assert executor.batches == [[1, 5]]
    assert set(scene.front.answers) == {1, 5}
    errors = scene.front.errors
    assert [type(errors[call]) for call in (2, 3, 4)] == [
        InvalidRequest,
        UnparsableMessage,
        UnknownModel,
    ]
    assert str(errors[2]) == (
        "[request id: me] inference input 'x' data-type is 'INT32', but model 'double' expects "
        "'FP32'"
    )
    assert version.statistics.refused == {"invalid_request": 1}
    assert scene.gateway.refused == {"unparsable_message": 1, "unknown_model": 1}
    assert version.statistics.fail.count == 0


def test_a_request_that_breaks_the_model_fails_alone() -> None:
    executor = DoublingExecutor()
    executor.refuse = lambda values: ModelFailed("poison") if 13 in values else None
    version = served(executor)
    scene = Scene(version)
    scene.front.queue({1: request(1), 2: request(13), 3: request(3)})
    scene.run()
    assert {call: values_of(a) for call, a in scene.front.answers.items()} == {1: [2], 3: [6]}
    assert str(scene.front.errors[2]) == "poison"
    assert version.statistics.failures == {"BACKEND": 1}
    assert version.statistics.success.count == 2


@pytest.mark.parametrize(
    ("limits", "queue_bytes_max"),
    [
        (QueueLimits(requests_max=2), 1_000_000),
        (QueueLimits(rows_max=2), 1_000_000),
        (QueueLimits(bytes_max=8), 1_000_000),
        (QueueLimits(), 8),
    ],
)
def test_every_bound_admits_up_to_itself_and_refuses_the_next_at_once(
    limits: QueueLimits, queue_bytes_max: int
) -> None:
    executor = DoublingExecutor(is_held=True)
    version = served(executor, queue=limits)
    scene = Scene(version, queue_bytes_max=queue_bytes_max)
    scene.front.queue({0: request(0)})
    scene.then(lambda: scene.front.queue({1: request(1), 2: request(2), 3: request(3)}))
    scene.then(executor.release)
    scene.then(executor.release)
    scene.run()
    assert executor.batches == [[0], [1, 2]]
    assert list(scene.front.errors) == [3]
    assert isinstance(scene.front.errors[3], QueueFull)
    assert str(scene.front.errors[3]).startswith("Exceeds maximum queue size")
    assert version.statistics.refused == {"queue_full": 1}


def test_a_request_expires_in_the_queue_and_is_not_executed() -> None:
    executor = DoublingExecutor(is_held=True)
    version = served(executor, queue=QueueLimits(timeout_us=5_000_000, timeout_override=True))
    scene = Scene(version)
    scene.front.queue({0: request(0)})
    late = request(1, parameters={"timeout": 1_500})
    scene.then(lambda: scene.front.queue({1: late, 2: request(2)}))
    scene.then(lambda: None)
    scene.then(lambda: None)
    scene.then(executor.release)
    scene.then(executor.release)
    scene.run()
    assert executor.batches == [[0], [2]]
    assert isinstance(scene.front.errors[1], QueueTimeout)
    assert version.statistics.failures == {"REJECTED": 1}


def test_the_timeout_parameter_is_ignored_where_the_model_does_not_allow_it() -> None:
    executor = DoublingExecutor(is_held=True)
    scene = Scene(served(executor))
    scene.front.queue({0: request(0)})
    scene.then(lambda: scene.front.queue({1: request(1, parameters={"timeout": 1})}))
    scene.then(lambda: None)
    scene.then(executor.release)
    scene.then(executor.release)
    scene.run()
    assert executor.batches == [[0], [1]]


def test_a_delayed_batch_waits_for_its_time_and_no_longer() -> None:
    executor = DoublingExecutor()
    scene = Scene(served(executor, batch=BatchLimits(rows_max=8, delay_us_max=3_000)))
    ran_before: list[int] = []
    scene.front.queue({1: request(1)})
    scene.then(lambda: scene.front.queue({2: request(2)}))
    scene.then(lambda: ran_before.append(len(executor.batches)))
    scene.then(lambda: None)
    scene.then(lambda: ran_before.append(len(executor.batches)))
    scene.run()
    assert ran_before == [0, 1]
    assert executor.batches == [[1, 2]]


def test_models_and_versions_are_batched_apart() -> None:
    old, new, other = DoublingExecutor(), DoublingExecutor(), DoublingExecutor()
    scene = Scene(
        served(old, version=1), served(new, version=2), served(other, name="other", version=1)
    )
    scene.front.queue(
        {
            1: request(1, version="1"),
            2: request(2),
            3: request(3, version="2"),
            4: request(4, model="other"),
        }
    )
    scene.run()
    assert (old.batches, new.batches, other.batches) == ([[1]], [[2, 3]], [[4]])
    assert pb.ModelInferResponse.FromString(scene.front.answers[2]).model_version == "2"


def test_shapes_of_free_dimensions_are_batched_apart() -> None:
    executor = DoublingExecutor()
    scene = Scene(served(executor, dims=(-1,)))
    scene.front.queue(
        {
            1: request(1, 2, shape=(1, 2)),
            2: request(3, 4, 5, shape=(1, 3)),
            3: request(6, 7, shape=(1, 2)),
        }
    )
    scene.run()
    assert sorted(executor.batches) == [[1, 2, 6, 7], [3, 4, 5]]
    assert values_of(scene.front.answers[3]) == [12, 14]


def test_what_waited_before_an_unload_still_runs_where_it_was_accepted() -> None:
    executor = DoublingExecutor(is_held=True)
    scene = Scene(served(executor))
    scene.front.queue({0: request(0)})
    scene.then(lambda: scene.front.queue({1: request(1)}))
    scene.then(lambda: scene.gateway.install(Catalog({"double": {}})))
    scene.then(lambda: scene.front.queue({2: request(2)}))
    scene.then(executor.release)
    scene.then(executor.release)
    scene.run()
    assert values_of(scene.front.answers[1]) == [2]
    assert str(scene.front.errors[2]) == (
        "Request for unknown model: 'double' has no available versions"
    )


def test_a_version_that_is_no_longer_the_newest_keeps_what_waits() -> None:
    executor = DoublingExecutor(is_held=True)
    first = served(executor, version=1)
    scene = Scene(first)
    scene.front.queue({0: request(0)})
    scene.then(lambda: scene.front.queue({1: request(1)}))
    second = served(DoublingExecutor(), version=2)
    scene.then(lambda: scene.gateway.install(catalog_of(first, second)))
    scene.then(lambda: scene.front.queue({2: request(2), 3: request(3, version="1")}))
    scene.then(executor.release)
    scene.then(executor.release)
    scene.run()
    assert executor.batches == [[0], [1, 3]]
    assert pb.ModelInferResponse.FromString(scene.front.answers[2]).model_version == "2"


def test_draining_answers_what_was_accepted_and_refuses_what_comes() -> None:
    executor = DoublingExecutor(is_held=True)
    scene = Scene(served(executor))
    scene.front.queue({0: request(0)})
    scene.then(lambda: scene.front.queue({1: request(1)}))
    scene.then(scene.gateway.stop)
    scene.then(lambda: scene.front.queue({2: request(2)}, calls=[Call(3, 7, b"ready")]))
    scene.then(executor.release)
    scene.then(executor.release)
    assert scene.run()
    assert set(scene.front.answers) == {0, 1, 3}
    assert isinstance(scene.front.errors[2], ShuttingDown)


def test_a_drain_that_takes_too_long_ends_and_says_so() -> None:
    executor = DoublingExecutor(is_held=True)
    scene = Scene(served(executor))
    scene.front.queue({0: request(0)})
    assert not scene.run()


def test_other_calls_reach_their_handler_and_its_bug_is_no_detail_for_the_caller() -> None:
    scene = Scene()
    scene.front.queue(calls=[Call(1, 4, b"abc")])
    scene.run()
    assert scene.calls == [(4, b"abc")]
    assert scene.front.answers == {1: b"ABC"}

    def bug(*_: object) -> None:
        raise RuntimeError("secret detail")

    scene = Scene()
    scene.gateway._handle_call = bug
    scene.front.queue(calls=[Call(1, 4, b"abc")])
    scene.run()
    assert "secret" not in str(scene.front.errors[1])


def test_statistics_count_requests_rows_and_batches_as_triton_does() -> None:
    version = served(DoublingExecutor())
    scene = Scene(version)
    scene.front.queue({1: request(1), 2: request(2, 3)})
    scene.then(lambda: scene.front.queue({3: request(4)}))
    scene.run()
    statistics = version.statistics
    assert statistics.success.count == 3
    assert statistics.inference_count == 4
    assert statistics.execution_count == 2
    assert set(statistics.batch_sizes) == {1, 3}
    assert statistics.compute_infer.count == 3
    assert statistics.compute_infer.ns == 3 * 1_000
    assert statistics.batch_sizes[3].compute_infer.count == 1
