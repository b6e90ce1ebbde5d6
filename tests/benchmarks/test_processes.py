import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from _processes import ProcStat, ServerFailed, ServerProcess, free_ports

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PARENT_AND_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("ready", child.pid, flush=True)
time.sleep(60)
"""
CHILD_THAT_WORKED_AND_ENDED = """
import subprocess, sys, time
work = "import time\\nwhile time.process_time() < 0.3: pass"
subprocess.run([sys.executable, "-c", work])
print("ready", flush=True)
time.sleep(60)
"""
ORPHAN_THAT_IGNORES_SIGTERM = """
import subprocess, sys, time
sleep = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", sleep], start_new_session=True)
print("ready", child.pid, flush=True)
time.sleep(60)
"""
CHILDREN_AND_GRANDCHILD_THAT_WORK = """
import subprocess, sys, time
work = "import time\\nwhile time.process_time() < 0.2: pass\\n"
work += "print('.', flush=True); time.sleep(60)"
parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
for code in (work, work, parent):
    subprocess.Popen([sys.executable, "-c", code])
time.sleep(60)
"""
ORPHAN_OF_A_PARENT_THAT_ENDED_AT_ONCE = """
import subprocess, sys, time
sleep = "import time; time.sleep(60)"
start = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]]); "
start += "print('ready', child.pid, flush=True)"
subprocess.run([sys.executable, "-c", start, sleep])
print("reaped", flush=True)
time.sleep(60)
"""


@pytest.fixture
def run(tmp_path):
    """Starts a Python program as a server; it is ended whatever the test does."""
    started = []

    def start(code):
        process = ServerProcess(tmp_path / "log", sys.executable, "-c", code)
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()


def state_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "gone"


def ended(pids, within_s):
    deadline = time.monotonic() + within_s
    while not (done := {state_of(pid) for pid in pids} <= {"Z", "gone"}):
        if time.monotonic() > deadline:
            break
        os.sched_yield()
    return done


def test_stat_is_read_right_when_the_command_name_holds_spaces_and_brackets():
    fields = ["S", "77", "0", "88", *["0"] * 7, "1", "2", "4", "8", *["0"] * 4, "991", "0"]
    stat = ProcStat(f"5 (a ) b) {' '.join(fields)}")
    assert (stat.parent, stat.session) == (77, 88)
    assert (stat.cpu_ticks, stat.started_ticks) == (15, 991)


def test_tree_holds_the_server_and_its_child(run):
    process = run(PARENT_AND_CHILD)
    child = int(process.wait_for_line(r"ready (\d+)", 10)[1])
    assert process.pids() == sorted([process.pid, child])


def test_tree_holds_an_orphan_whose_parent_was_gone_before_anyone_looked(run):
    process = run(ORPHAN_OF_A_PARENT_THAT_ENDED_AT_ONCE)
    process.wait_for_line(r"reaped", 10)
    child = int(process.wait_for_line(r"ready (\d+)", 10)[1])
    assert process.pids() == sorted([process.pid, child])


def test_cpu_time_counts_every_process_of_the_tree_once(run):
    process = run(CHILDREN_AND_GRANDCHILD_THAT_WORK)
    process.wait_for_line(r"\A\.\n\.\n\.\n", 20)
    assert len(process.pids()) == 5
    # Three that worked for 0.2 s, and the start of five interpreters.
    assert 0.55 <= process.cpu_s() < 1.2


def test_stop_ends_an_orphan_that_ignores_sigterm(run):
    process = run(ORPHAN_THAT_IGNORES_SIGTERM)
    child = int(process.wait_for_line(r"ready (\d+)", 10)[1])
    assert process.stop() == -signal.SIGTERM
    assert ended([child], within_s=1)


def test_cpu_time_includes_a_child_that_has_ended(run):
    process = run(CHILD_THAT_WORKED_AND_ENDED)
    process.wait_for_line("ready", 10)
    # Less than 0.3: the kernel rounds each of four figures down to 10 ms.
    assert 0.25 <= process.cpu_s() < 3.0


def test_cpu_time_counts_only_what_the_pattern_finds(run):
    process = run(CHILD_THAT_WORKED_AND_ENDED)
    process.wait_for_line("ready", 10)
    assert process.cpu_s(only="no such command") == 0
    assert process.cpu_s(only="process_time") == process.cpu_s()


def test_pause_stops_the_tree_and_resume_lets_it_go_on(run):
    process = run(PARENT_AND_CHILD)
    process.wait_for_line("ready", 10)
    process.pause()
    for pid in process.pids():
        # Waiting for the stop itself; both returns at once when it has happened.
        deadline = time.monotonic() + 5
        while state_of(pid) != "T" and time.monotonic() < deadline:
            os.sched_yield()
    assert {state_of(pid) for pid in process.pids()} == {"T"}
    process.resume()
    assert "T" not in {state_of(pid) for pid in process.pids()}


def test_memory_figures_agree_with_the_kernels_own(run):
    process = run("print('ready', flush=True)\nimport time\ntime.sleep(60)")
    process.wait_for_line("ready", 10)
    listed = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(process.pid)], capture_output=True, text=True, check=True
    )
    assert process.rss_bytes() == int(listed.stdout) * 1024
    assert 0 < process.pss_bytes() <= process.rss_bytes() <= process.rss_peak_bytes()


def test_server_that_ends_before_it_is_ready_is_reported_with_its_last_line(run):
    process = run("print('first'); raise SystemExit('port 1 is taken')")
    with pytest.raises(ServerFailed, match=r"\Aended with code 1, last line: port 1 is taken\n"):
        process.wait_for_line("ready", 10)


def test_server_that_never_gets_ready_is_reported(run):
    with pytest.raises(ServerFailed, match="not ready after 0 s"):
        run("import time; time.sleep(60)").wait_for_line("ready", 0.05)


def test_free_ports_are_different():
    assert len(set(free_ports(20))) == 20


def test_paused_server_ends_when_the_benchmark_is_killed(tmp_path):
    benchmark = f"""
import sys, time
from pathlib import Path
sys.path.append({str(BENCHMARKS)!r})
from _processes import ServerProcess
server = ServerProcess(Path({str(tmp_path / "log")!r}), sys.executable, "-c", {PARENT_AND_CHILD!r})
server.wait_for_line("ready", 10)
server.pause()
print(*server.pids(), flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", benchmark], stdout=subprocess.PIPE, text=True
    ) as running:
        pids = [int(pid) for pid in running.stdout.readline().split()]
        running.kill()
    assert len(pids) == 2
    assert ended(pids, within_s=10)
