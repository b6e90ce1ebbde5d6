"""A GPU made of CPU tensors, whose streams run late, early or at random, as a test likes.

On a real device nothing but stream order and events says when work runs. So here work is queued,
and every legal order can be had: a dependency that is missing reads or overwrites wrong data, and a
pinned buffer that is used again too soon sends the wrong bytes. A kernel that fails makes the
device fail for good, as CUDA does.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from kedge.executors.cuda.device import Event, Program, Stream

# The order in which the executor makes its streams.
STREAM_NAMES = ("copy_in", "compute", "copy_out")
GARBAGE = 0xA5
STICKY = "CUDA error: an illegal memory access was encountered"


class Mark:
    """One record of an event."""

    def __init__(self, stream: FakeStream) -> None:
        self.stream = stream
        self.is_reached = False


class Work(NamedTuple):
    label: str
    action: Callable[[], None]
    after: Mark | None = None


class FakeStream:
    def __init__(self, device: FakeGpu, name: str) -> None:
        self.device = device
        self.name = name
        self.queue: deque[Work] = deque()

    def wait_event(self, event: Event) -> None:
        assert isinstance(event, FakeEvent)
        if event.mark is not None:
            self.device.give(self, Work("wait", lambda: None, event.mark))


class FakeEvent:
    def __init__(self, device: FakeGpu) -> None:
        self.device = device
        self.mark: Mark | None = None

    def record(self, stream: Stream) -> None:
        assert isinstance(stream, FakeStream)
        mark = self.mark = Mark(stream)

        def reach() -> None:
            mark.is_reached = True

        self.device.give(stream, Work("record", reach))

    def synchronize(self) -> None:
        if self.mark is not None:
            self.device.wait_for([self.mark])

    def elapsed_time(self, end_event: Event) -> float:
        assert isinstance(end_event, FakeEvent)
        if self.device.elapsed_time_fails:
            raise RuntimeError(STICKY)
        for event in (self, end_event):
            assert event.mark is not None
            assert event.mark.is_reached, "elapsed_time of an event that is not reached"
        return 1.5


class FakeGraph:
    def __init__(self, device: FakeGpu, replay: Callable[[], None]) -> None:
        self.device = device
        self.run = replay

    def replay(self) -> None:
        self.device.check("replay")
        self.device.give(self.device.current, Work("replay", self.run))


class FakeGpu:
    """Implements `executors.cuda.device.Device`.

    eager: streams that run as soon as they may; the others run when somebody waits for them, and
    then no further than needed. chance: instead, each stream is as eager as a dice says.
    """

    name = "cuda:0"

    def __init__(self, eager: Sequence[str] = (), chance: random.Random | None = None) -> None:
        self._eager = eager
        self._chance = chance
        self._eagerness = {
            name: chance.choice((0.0, 0.0, 0.3, 1.0)) if chance else 0.0 for name in STREAM_NAMES
        }
        self._streams: list[FakeStream] = []
        self._default = FakeStream(self, "default")
        self._of_thread = threading.local()
        self._lock = threading.RLock()
        self._may_end = threading.Event()
        self._may_end.set()
        self._pinned: set[int] = set()
        self._failures: dict[str, list[Exception]] = {}
        self.is_lost = False
        self.elapsed_time_fails = False
        # So many waits end after `go_on`, then it holds again; 0: all.
        self.hold_after = 0
        self.memory_bytes_max = 0
        self.buffer_bytes: list[int] = []
        self.captures = 0
        self.releases = 0
        self.log: list[str] = []

    # What a test does to it

    def hold(self) -> None:
        """Nobody who waits goes on, until `go_on`."""
        self._may_end.clear()

    def go_on(self) -> None:
        self._may_end.set()

    def lose(self) -> None:
        """From now on it fails, whatever is asked."""
        self.is_lost = True

    def fail(self, call: str, *errors: Exception) -> None:
        """The next calls of a method raise these errors."""
        self._failures[call] = list(errors)

    def run_all(self) -> None:
        """Run everything that is queued."""
        with self._lock:
            while self._run_one(self._runnable()):
                pass

    # Device

    def enter_thread(self) -> None:
        self._of_thread.has_entered = True

    def limit_memory(self, nbytes: int) -> None:
        self.memory_bytes_max = nbytes

    def stream(self) -> Stream:
        self._streams.append(FakeStream(self, STREAM_NAMES[len(self._streams)]))
        return self._streams[-1]

    def event(self, *, timed: bool) -> Event:
        return FakeEvent(self)

    @property
    def current(self) -> FakeStream:
        stream: FakeStream = getattr(self._of_thread, "stream", self._default)
        return stream

    def use(self, stream: Stream) -> None:
        assert getattr(self._of_thread, "has_entered", False), "use() before enter_thread()"
        assert isinstance(stream, FakeStream)
        self._of_thread.stream = stream

    def pinned(self, nbytes: int) -> torch.Tensor:
        self.check("pinned")
        tensor = torch.full((nbytes,), GARBAGE, dtype=torch.uint8)
        self._pinned.add(tensor.untyped_storage().data_ptr())
        return tensor

    def buffer(self, nbytes: int) -> torch.Tensor:
        self.check("buffer")
        self.buffer_bytes.append(nbytes)
        tensor = torch.full((nbytes,), GARBAGE, dtype=torch.uint8)
        self.give(self.current, Work("zero", lambda: self._set(tensor, 0)))
        return tensor

    def copy(self, to: torch.Tensor, source: torch.Tensor) -> None:
        self.check("copy")
        assert to.shape == source.shape, (to.shape, source.shape)
        assert to.dtype == source.dtype == torch.uint8
        host = {"copy_in": source, "copy_out": to}.get(self.current.name)
        if host is not None:
            assert host.untyped_storage().data_ptr() in self._pinned, "host memory is not pinned"
        self.give(self.current, Work("copy", lambda: self._set(to, source)))

    def zero(self, tensor: torch.Tensor) -> None:
        self.check("zero")
        self.give(self.current, Work("zero", lambda: self._set(tensor, 0)))

    @staticmethod
    def _set(to: torch.Tensor, value: torch.Tensor | int) -> None:
        if isinstance(value, int):
            to.fill_(value)
        else:
            to.copy_(value)

    def run(self, program: Program, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        self.check("run")
        with torch.inference_mode():
            # Launching a kernel does not look at the data, which may not have arrived yet.
            like = program([torch.zeros_like(tensor) for tensor in inputs])
            outputs = [torch.empty_like(tensor) for tensor in like]
            for output in outputs:
                output.reshape(-1).view(torch.uint8).fill_(GARBAGE)
        self.give(self.current, Work("run", lambda: self._fill(outputs, program, inputs)))
        return outputs

    def capture(
        self, program: Program, inputs: Sequence[torch.Tensor], stream: Stream
    ) -> tuple[FakeGraph, list[torch.Tensor]]:
        self.check("capture")
        assert not any(queued.queue for queued in self._streams), "capture on a busy device"
        self.captures += 1
        with torch.inference_mode():
            outputs = program(inputs)
        return FakeGraph(self, lambda: self._fill(outputs, program, inputs)), outputs

    @staticmethod
    def _fill(
        outputs: list[torch.Tensor], program: Program, inputs: Sequence[torch.Tensor]
    ) -> None:
        for output, answer in zip(outputs, program(inputs), strict=True):
            output.copy_(answer)

    def synchronize(self) -> None:
        self.check("synchronize")
        with self._lock:
            marks = [Mark(stream) for stream in (self._default, *self._streams)]
            for mark in marks:
                mark.stream.queue.append(Work("record", lambda m=mark: _reach(m)))  # type: ignore[misc]
        self.wait_for(marks)

    def release_memory(self) -> None:
        self.releases += 1

    # Time

    def check(self, call: str) -> None:
        """Raise what a test wants this call to raise."""
        if self.is_lost:
            raise RuntimeError(STICKY)
        if self._failures.get(call):
            raise self._failures[call].pop(0)

    def give(self, stream: FakeStream, work: Work) -> None:
        with self._lock:
            stream.queue.append(work)
            if self._chance is not None:
                for _ in range(4):
                    names = [n for n, e in self._eagerness.items() if self._chance.random() < e]
                    ready = [s for s in self._runnable() if s.name in names]
                    self._run_one(self._chance.sample(ready, len(ready)))
                return
            while self._run_one([s for s in self._runnable() if s.name in self._eager]):
                pass

    def _runnable(self) -> list[FakeStream]:
        return [
            stream
            for stream in (self._default, *self._streams)
            if stream.queue and (stream.queue[0].after is None or stream.queue[0].after.is_reached)
        ]

    def _run_one(self, streams: Sequence[FakeStream]) -> bool:
        if not streams:
            return False
        stream = streams[0]
        work = stream.queue.popleft()
        if work.label not in ("wait", "record"):
            self.log.append(f"{stream.name}:{work.label}")
        try:
            with torch.inference_mode():
                work.action()
        except Exception:
            self.is_lost = True
        return True

    def wait_for(self, marks: Sequence[Mark]) -> None:
        """Run what the marks need, and no more."""
        self._may_end.wait()
        if self.hold_after > 0:
            self.hold_after -= 1
            if self.hold_after == 0:
                self.hold()
        with self._lock:
            for mark in marks:
                self._run_until(mark)
        self.check("wait_for")

    def _run_until(self, mark: Mark) -> None:
        while not mark.is_reached:
            assert mark.stream.queue, "waits for an event that was never recorded"
            after = mark.stream.queue[0].after
            if after is not None:
                self._run_until(after)
            self._run_one([mark.stream])


def _reach(mark: Mark) -> None:
    mark.is_reached = True
