"""Fuzzes the codec between guard pages: `python tests/kernels/fuzz_codec.py --seconds 60`.

Every message lies once directly before and once directly behind memory that may not be touched, and
so do the buffers of its batch: one byte read or written too far ends the process with a
segmentation fault. What is accepted must be what the slow twin accepts. The seed is printed first.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import sys
import time
from collections import Counter
from collections.abc import Sequence
from math import prod
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from kedge_kernels import codec, lengths
from kedge_kernels.answer_write import describe_output, measure_answers, write_answers
from kedge_kernels.codec import AnswerTable, OutputPlan, RequestPlan, RequestTable
from kedge_kernels.cut_output import cut_output
from support.codec_messages import mutated, random_plans, random_request, spoiled
from support.reference_codec import Columns, columns_of, read, write

PROT_NONE = 0
MESSAGE_BYTES_MAX = 1 << 23
MESSAGES_PER_PLAN = 50


class GuardedMemory:
    """Writable memory between two pages that may not be touched. A thing placed in it replaces the
    one before.
    """

    def __init__(self, size_bytes: int) -> None:
        page = mmap.PAGESIZE
        whole = np.frombuffer(mmap.mmap(-1, size_bytes + 2 * page), np.uint8)
        self.memory = whole[page:-page]
        libc = ctypes.CDLL(None, use_errno=True)
        for guard in (whole[:page], whole[-page:]):
            address = ctypes.c_void_p(guard.ctypes.data)
            if libc.mprotect(address, ctypes.c_size_t(page), PROT_NONE) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")

    def at_end(self, size_bytes: int) -> NDArray[np.uint8]:
        """The last bytes before the guard."""
        return self.memory[len(self.memory) - size_bytes :]

    def at_start(self, size_bytes: int) -> NDArray[np.uint8]:
        """The first bytes behind the guard."""
        return self.memory[:size_bytes]


class Fuzzer:
    """Runs cases; `counts` has how many messages were fast, or why they were not."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.counts: Counter[int] = Counter()
        self._message = GuardedMemory(MESSAGE_BYTES_MAX)
        self._buffers = [GuardedMemory(MESSAGE_BYTES_MAX) for _ in range(4)]
        self._answers = GuardedMemory(MESSAGE_BYTES_MAX)

    def run_plans(self) -> None:
        """Scans good, spoiled and mutated messages for a few random plans."""
        random = self.random
        plans = random_plans(random, bytes_share=0.02)
        table = RequestTable(plans)
        for _ in range(MESSAGES_PER_PLAN):
            request = random_request(random, random.choice(plans))
            good = request.SerializeToString()
            bad = spoiled(random, request)
            for payload in (good, bad, mutated(random, good), mutated(random, bad)):
                self._scan(payload, plans, table)
        self._scan(random.randbytes(random.randint(0, 300)), plans, table)

    def _scan(self, payload: bytes, plans: Sequence[RequestPlan], table: RequestTable) -> None:
        if len(payload) > MESSAGE_BYTES_MAX:
            return
        for place in (self._message.at_start, self._message.at_end):
            memory = place(len(payload))
            memory[:] = np.frombuffer(payload, np.uint8)
            address = np.array([memory.ctypes.data])
            fields = codec.scan_addresses(address, np.array([len(payload)]), table)
            code = int(fields[0, codec.CODE])
            if code == 0:
                columns = columns_of(fields[0], table)
                assert columns == read(payload, plans)
                self._answer(plans[columns.plan], fields, columns)
        self.counts[code] += 1

    def _answer(self, plan: RequestPlan, fields: NDArray[np.int64], columns: Columns) -> None:
        """Gathers and answers the request, again at the edge of what may be touched."""
        destinations = [
            buffer.at_end(len(raw)) for buffer, raw in zip(self._buffers, columns.raw, strict=False)
        ]
        codec.gather(fields, destinations)
        assert [destination.tobytes() for destination in destinations] == list(columns.raw)

        self._pad_and_cut(plan, fields, columns)
        specs = [OutputPlan(name, "INT8", 1) for name in plan.outputs]
        dims = [(self.random.choice((0, 1, 7, 300)),) for _ in specs]
        outputs = [
            buffer.at_end(columns.rows * size)
            for buffer, (size,) in zip(self._buffers, dims, strict=False)
        ]
        layout = AnswerTable(plan.name, plan.version, specs, plan.batched).layout(dims)
        data = np.empty((len(specs), 2), np.int64)
        for j, output in enumerate(outputs):
            assert describe_output(output, j, data)
        starts = np.empty(1, np.int64)
        answer = self._answers.at_end(measure_answers(fields, layout.packed, data, starts))
        write_answers(fields, layout.packed, data, starts, answer.ctypes.data)
        contents = [output.tobytes() for output in outputs]
        assert [answer.tobytes()] == write(plan, [columns], specs, dims, contents)

    def _pad_and_cut(self, plan: RequestPlan, fields: NDArray[np.int64], columns: Columns) -> None:
        """Pads the inputs to the edge of what may be touched, and cuts them back to it."""
        items = [spec.item_bytes for spec in plan.inputs]
        dims = [
            tuple(max(1, size + self.random.choice((0, 0, 1, 3))) for size in row)
            for row in columns.dims
        ]
        rows = columns.rows
        sizes = [rows * item * prod(row) for row, item in zip(dims, items, strict=True)]
        if max(sizes) > MESSAGE_BYTES_MAX:
            return
        start = codec.INPUTS + 2 * len(items)
        own = [size for row in columns.dims for size in row]
        padded = np.concatenate([fields[0, :start], np.array(own, np.int64)])[None]
        batch = [buffer.at_end(n) for buffer, n in zip(self._buffers, sizes, strict=False)]
        lengths.gather_padded(padded, start, dims, items, batch)
        chosen = np.array([True])
        for k, raw in enumerate(columns.raw):
            target = self._answers.at_end(len(raw))
            edges = np.array(dims[k], np.int64), np.array(columns.dims[k], np.int64)
            assert cut_output(padded, chosen, batch[k], *edges, items[k], target) == len(raw)
            assert target.tobytes() == raw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    sys.stdout.flush()  # a segmentation fault would lose it
    fuzzer = Fuzzer(options.seed)
    end_s = time.monotonic() + options.seconds
    while time.monotonic() < end_s:
        fuzzer.run_plans()
    counts = fuzzer.counts
    sys.stdout.write(f"{counts.total()} messages, {counts.pop(0, 0)} of them fast\n")
    sys.stdout.write(f"fallbacks by code: {dict(sorted(counts.items()))}\n")


if __name__ == "__main__":
    main()
