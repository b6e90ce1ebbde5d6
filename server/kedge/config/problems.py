"""What is wrong with a configuration: every problem with its file and line, all at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kedge.core.errors import RepositoryFailed

# Of every key, option and format that is planned and refused until it works.
NOT_YET = "not in this version of Kedge"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. where: the file or the environment variable; line: from 1, 0 = none; key: the
    dotted key, "" for the whole document.
    """

    where: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.where}:{self.line}" if self.line else self.where
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(RepositoryFailed):
    """A configuration cannot be used. `problems` has every reason; the text is one per line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        assert problems, "an error needs a reason"
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known word most like `word`, else "" if none is near."""
    known = sorted(known)
    # difflib's own cutoff, 0.6, joins `max_batchsize` to max_batch_size and leaves `foo` alone.
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""
