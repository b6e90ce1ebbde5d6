"""`ModelStreamInfer`: every message of a stream is an inference call of its own.

Requests reach the gateway in the stream's order; answers leave as they come, as in Triton.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial

import grpc.aio

from kedge.core.errors import QueueFull, ServeError
from kedge.front.exchange import Answer, Asked, Exchange, Slots
from kedge.front.gate import Context, refuse
from kedge.front.inbox import INFER
from kedge.front.refusals import text_of
from kedge.front.stream_wire import answer_message, error_message, request_id

# Triton's: with this metadata an error ends the stream instead of being one of its messages.
ENDS_ON_ERROR = ("triton_grpc_error", "true")


class Stream:
    """One call of `ModelStreamInfer`, for as long as `serve` runs.

    A message holds one of the stream's `messages_max` places from when it is read until its answer
    is written; while all are held, nothing is read, and HTTP/2 stops the client. It also takes one
    of `slots`; when none is left, it is answered with the refusal.
    """

    def __init__(
        self, exchange: Exchange, slots: Slots, messages_max: int, context: Context
    ) -> None:
        self._exchange = exchange
        self._slots = slots
        self._context = context
        self._places = asyncio.Semaphore(messages_max)
        self._slots_held = 0
        self._pending: set[int] = set()
        # Request id, answer, and how many slots its message holds.
        self._answers: deque[tuple[bytes, Answer, int]] = deque()
        self._changed = asyncio.Event()
        self._is_read = False
        metadata = context.invocation_metadata() or ()
        self._ends_on_error = ENDS_ON_ERROR in [(key, value) for key, value in metadata]

    async def serve(self) -> None:
        """Read and answer until the client's half-close and the last answer."""
        on_end = partial(_set, self._changed)
        self._exchange.ended.add_done_callback(on_end)
        reader = asyncio.ensure_future(self._read())
        try:
            await self._write_answers()
            await reader
        finally:
            reader.cancel()
            self._exchange.ended.remove_done_callback(on_end)
            for call_id in self._pending:
                self._exchange.abandon(call_id)
            self._slots.free(self._slots_held)

    async def _read(self) -> None:
        try:
            while True:
                await self._places.acquire()
                message = await self._context.read()
                if message is grpc.aio.EOF:
                    return
                self._accept(message)
        finally:
            self._is_read = True
            self._changed.set()

    def _accept(self, message: bytes) -> None:
        own_id = request_id(message)
        slots_before = self._slots_held
        try:
            self._slots.take()
            self._slots_held += 1
            call_id, asked = self._exchange.post(INFER, message)
        except QueueFull as error:
            self._answer(own_id, error, self._slots_held - slots_before)
            return
        self._pending.add(call_id)
        asked.add_done_callback(partial(self._on_answer, call_id, own_id))

    def _on_answer(self, call_id: int, own_id: bytes, asked: Asked) -> None:
        self._pending.discard(call_id)
        self._answer(own_id, asked.result(), 1)

    def _answer(self, own_id: bytes, answer: Answer, slots: int) -> None:
        self._answers.append((own_id, answer, slots))
        self._changed.set()

    async def _write_answers(self) -> None:
        while True:
            while self._answers:
                own_id, answer, slots = self._answers.popleft()
                await self._write(own_id, answer)
                self._slots.free(slots)
                self._slots_held -= slots
                self._places.release()
            if self._exchange.ended.done():
                await refuse(self._context, self._exchange.ended.result())
            if self._is_read and not self._pending:
                return
            self._changed.clear()
            await self._changed.wait()

    async def _write(self, own_id: bytes, answer: Answer) -> None:
        if not isinstance(answer, ServeError):
            await self._context.write(answer_message(answer))
        elif self._ends_on_error:
            await refuse(self._context, answer)
        else:
            await self._context.write(error_message(text_of(answer), own_id))


def _set(event: asyncio.Event, _ended: object) -> None:
    event.set()
