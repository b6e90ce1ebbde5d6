"""The Mersenne Twister of Python's `random`, within a flat f64 state: KSWIN's draws are the same
numbers that river's are.

Source: Matsumoto & Nishimura 1998, ACM TOMACS 8(1); seeding by array as in their 2002 version.
"""

from __future__ import annotations

from kedge_kernels._frames import Floats
from kedge_kernels._jit import kernel

WORDS = 624
# Words of the generator, then the position of the next one.
SIZE = WORDS + 1
_LOW = 0xFFFFFFFF


@kernel
def seed_twister(state: Floats, at: int, low: int, high: int) -> None:
    """As `random.Random(low + (high << 32))`; low, high: 0..2**32 - 1."""
    word = 19650218
    state[at] = word
    for i in range(1, WORDS):
        word = (1812433253 * (word ^ (word >> 30)) + i) & _LOW
        state[at + i] = word
    keys = 2 if high > 0 else 1
    i, j = 1, 0
    for _ in range(WORDS):
        before = int(state[at + i - 1])
        mixed = (before ^ (before >> 30)) * 1664525 & _LOW
        key = low if j == 0 else high
        state[at + i] = ((int(state[at + i]) ^ mixed) + key + j) & _LOW
        i += 1
        j = j + 1 if j + 1 < keys else 0
        if i == WORDS:
            state[at] = state[at + WORDS - 1]
            i = 1
    for _ in range(WORDS - 1):
        before = int(state[at + i - 1])
        mixed = (before ^ (before >> 30)) * 1566083941 & _LOW
        state[at + i] = ((int(state[at + i]) ^ mixed) - i) & _LOW
        i += 1
        if i == WORDS:
            state[at] = state[at + WORDS - 1]
            i = 1
    state[at] = 0x80000000
    state[at + WORDS] = WORDS


@kernel
def draw_below(state: Floats, at: int, bound: int) -> int:
    """As `random.Random.randrange(bound)`; bound: 1..2**32 - 1."""
    bits = 0
    while bound >> bits != 0:
        bits += 1
    while True:
        drawn = _word(state, at) >> (32 - bits)
        if drawn < bound:
            return drawn


@kernel
def _word(state: Floats, at: int) -> int:
    position = int(state[at + WORDS])
    if position >= WORDS:
        _twist(state, at)
        position = 0
    state[at + WORDS] = position + 1
    word = int(state[at + position])
    word ^= word >> 11
    word ^= (word << 7) & 0x9D2C5680
    word ^= (word << 15) & 0xEFC60000
    return word ^ (word >> 18)


@kernel
def _twist(state: Floats, at: int) -> None:
    for i in range(WORDS):
        joined = int(state[at + i]) & 0x80000000 | int(state[at + (i + 1) % WORDS]) & 0x7FFFFFFF
        word = int(state[at + (i + 397) % WORDS]) ^ (joined >> 1)
        if joined & 1:
            word ^= 0x9908B0DF
        state[at + i] = word
