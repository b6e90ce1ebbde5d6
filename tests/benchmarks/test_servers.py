from _servers import Server


class Answering(Server):
    """A server whose count of successes goes through the given figures, then stands still."""

    def __init__(self, *counts):
        super().__init__("answering", None, "", {})
        object.__setattr__(self, "counts", list(counts))

    def successes(self, model):
        return self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]


def test_successes_settle_when_two_looks_in_a_row_see_the_same():
    assert Answering(5, 7, 9, 9, 12).settled_successes("bench") == 9
    assert Answering(5).settled_successes("bench") == 5


def test_successes_that_never_stand_still_are_not_waited_for_longer_than_the_limit(monkeypatch):
    monkeypatch.setattr("_servers.SETTLE_S_MAX", 0.0)
    assert Answering(5, 7, 9).settled_successes("bench") == 5
