"""Children end with their parent, print where they should, and their ends are told in words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kedge.process.child import describe_exit, end_child, start_child
from support.server import is_alive, wait_until

# A child that asks to end with its parent and then never looks at anything again.
HANGING = """
import os, sys
from kedge.process.child import end_with_parent
end_with_parent(int(sys.argv[1]))
os.write(int(sys.argv[2]), b"x")
while True:
    pass
"""
PARENT = """
import os, sys
from kedge.process.child import start_child
read, write = os.pipe()
child = start_child("hanging", [str(os.getpid()), str(write)], [write], {"PYTHONPATH": sys.argv[1]})
os.read(read, 1)
print(child.pid, flush=True)
os.read(0, 1)
"""


@pytest.fixture
def module_path(tmp_path: Path) -> str:
    (tmp_path / "hanging.py").write_text(HANGING)
    return os.pathsep.join([str(tmp_path), *sys.path])


def test_a_child_that_hangs_ends_with_its_killed_parent(module_path: str) -> None:
    command = [sys.executable, "-c", PARENT, module_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(child, number)
        assert is_alive(child)
        parent.kill()
        assert wait_until(lambda: not is_alive(child))


def test_a_child_that_does_not_end_is_killed(module_path: str) -> None:
    read, write = os.pipe()
    arguments = [str(os.getpid()), str(write)]
    child = start_child("hanging", arguments, [write], {"PYTHONPATH": module_path})
    assert os.read(read, 1) == b"x"
    assert end_child(child, wait_s=0) == -signal.SIGKILL
    os.close(read)
    os.close(write)


FORKING = """
import os, signal, sys
from kedge.process.child import end_with_parent
end_with_parent(int(sys.argv[1]))
helper = os.fork()
if helper == 0:
    signal.pause()
os.write(int(sys.argv[2]), str(helper).encode())
os._exit(3)
"""


def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    (tmp_path / "forking.py").write_text(FORKING)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    read, write = os.pipe()
    child = start_child("forking", [str(os.getpid()), str(write)], [write], {"PYTHONPATH": path})
    helper = int(os.read(read, 20))
    assert is_alive(helper)
    assert end_child(child) == 3
    assert wait_until(lambda: not is_alive(helper))
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-signal.SIGSEGV, "SIGSEGV"),
        (-signal.SIGKILL, "SIGKILL (out of memory?)"),
        (-250, "signal 250"),
    ],
)
def test_an_exit_is_told_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words
