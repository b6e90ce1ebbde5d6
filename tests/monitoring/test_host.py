import os

import pytest

from kedge.monitoring.host import CpuTicks, HostReader, cpu_share, cpu_ticks, memory_bytes

STAT = "cpu  10 1 5 80 4 0 2 3 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"


def write_proc(proc, *, stat=STAT):
    (proc / "stat").write_text(stat)
    (proc / "meminfo").write_text("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  400 kB\n")


def test_idle_and_iowait_are_not_busy_and_guest_is_not_counted_twice():
    assert cpu_ticks(STAT) == CpuTicks(busy=21, total=105)


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        (CpuTicks(10, 100), CpuTicks(60, 200), 0.5),
        (CpuTicks(10, 100), CpuTicks(110, 200), 1.0),
        (CpuTicks(10, 100), CpuTicks(10, 100), 0.0),
        (CpuTicks(10, 100), CpuTicks(112, 200), 1.0),
        (CpuTicks(10, 100), CpuTicks(8, 200), 0.0),
    ],
)
def test_the_cpu_share_stays_between_0_and_1(before, after, share):
    assert cpu_share(before, after) == share


def test_memory_is_told_in_bytes():
    text = "MemTotal:       2 kB\nMemAvailable:   1 kB\nHugePages_Total:       0\n"
    assert memory_bytes(text) == (2048, 1024)


def test_a_reading_has_the_share_since_the_reading_before(tmp_path):
    write_proc(tmp_path)
    reader = HostReader(tmp_path)
    assert reader.read(1).cpu_share == 0.0
    write_proc(tmp_path, stat="cpu  35 1 5 155 4 0 2 3 7 0\n")
    assert reader.read(1).cpu_share == 0.25
    assert reader.read(1).cpu_share == 0.0


def test_a_process_whose_name_holds_blanks_and_brackets_is_read(tmp_path):
    write_proc(tmp_path)
    (tmp_path / "7").mkdir()
    rest = "S " + " ".join(map(str, range(1, 20)))
    (tmp_path / "7" / "stat").write_text(f"7 (a b) c) {rest}\n")
    (tmp_path / "7" / "statm").write_text("100 50 3 4 5 6 7\n")
    reading = HostReader(tmp_path).read(7).process
    assert reading is not None
    assert reading.resident_bytes == 50 * os.sysconf("SC_PAGE_SIZE")
    assert reading.cpu_s == (11 + 12) / os.sysconf("SC_CLK_TCK")


def test_this_very_process_has_plausible_figures():
    reading = HostReader().read(os.getpid())
    times = os.times()
    assert reading.process is not None
    assert 1 << 20 < reading.process.resident_bytes < reading.memory_total_bytes
    assert abs(reading.process.cpu_s - times.user - times.system) < 1.0
    assert 0 < reading.memory_used_bytes < reading.memory_total_bytes


def test_a_process_that_is_gone_has_no_reading(tmp_path):
    write_proc(tmp_path)
    assert HostReader(tmp_path).read(4_000_000).process is None
