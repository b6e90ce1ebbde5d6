"""Figures from /proc, the real one and one with known numbers."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import pytest

from kedge.monitoring.proc import CpuTicks, read_cpu_ticks, read_memory_bytes, read_process

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")


def test_idle_and_waiting_are_not_busy_and_guests_count_once(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  10 1 5 80 3 0 1 0 7 0\ncpu0 1 1 1 1\n")
    assert read_cpu_ticks(tmp_path) == CpuTicks(busy=17, total=100)


def test_the_busy_share_is_that_of_the_time_between() -> None:
    before = CpuTicks(busy=10, total=100)
    assert CpuTicks(busy=40, total=140).busy_share_since(before) == 0.75
    assert before.busy_share_since(before) == 0.0


def test_memory_is_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  2048 kB\nMemAvailable: 512 kB\nHugePages: 3\n")
    memory_bytes = read_memory_bytes(tmp_path)
    assert (memory_bytes["MemTotal"], memory_bytes["MemAvailable"]) == (2 * 2**20, 2**19)


def test_a_process_may_have_brackets_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    columns = ["S", *map(str, range(4, 14)), "250", "150", *map(str, range(16, 24)), "3", "25"]
    (tmp_path / "7" / "stat").write_text(f"7 (a) b (c)) {' '.join(columns)}\n")
    figures = read_process(7, tmp_path)
    assert figures is not None
    assert figures.cpu_s == 400 / os.sysconf("SC_CLK_TCK")
    assert figures.resident_bytes == 3 * os.sysconf("SC_PAGE_SIZE")


def test_without_proc_there_are_no_figures(tmp_path: Path) -> None:
    assert read_cpu_ticks(tmp_path) is None
    assert read_memory_bytes(tmp_path) == {}
    assert read_process(os.getpid(), tmp_path) is None


@on_linux
def test_this_process_is_measured_as_the_system_measures_it() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    figures = read_process(os.getpid())
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert figures is not None
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    # User and system time are each cut to whole ticks.
    assert before.ru_utime + before.ru_stime - 2 * tick_s <= figures.cpu_s
    assert figures.cpu_s <= after.ru_utime + after.ru_stime + 2 * tick_s
    assert 0 < figures.resident_bytes <= after.ru_maxrss * 1024


@on_linux
def test_the_machine_has_memory_and_time() -> None:
    memory_bytes = read_memory_bytes()
    assert 0 < memory_bytes["MemAvailable"] <= memory_bytes["MemTotal"]
    assert memory_bytes["MemTotal"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    ticks = read_cpu_ticks()
    assert ticks is not None
    assert 0 < ticks.busy <= ticks.total
