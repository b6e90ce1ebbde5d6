import pytest
from _load import LoadFailed, read_h2load_log, read_perf_analyzer

CSV_HEAD = (
    "Concurrency,Inferences/Second,Client Send,p50 latency,p90 latency,p95 latency,p99 latency"
)


def write(path, text):
    path.write_text(text)
    return path


def test_h2load_log_gives_rate_over_the_whole_span_and_percentiles_over_all_requests(tmp_path):
    lines = [f"{1_000_000 + 10_000 * i}\t200\t{100 + i}" for i in range(101)]
    load = read_h2load_log(write(tmp_path / "log", "\n".join(lines)))
    assert load.requests == 101
    assert load.requests_per_s == pytest.approx(101 / 1.0002)
    assert (load.p50_us, load.p99_us) == (150.0, 199.0)


def test_h2load_log_of_one_request_is_read(tmp_path):
    assert read_h2load_log(write(tmp_path / "log", "1000\t200\t50\n")).requests == 1


@pytest.mark.filterwarnings("ignore:loadtxt")
def test_h2load_log_without_requests_is_a_failure(tmp_path):
    with pytest.raises(LoadFailed, match="no answer at all"):
        read_h2load_log(write(tmp_path / "log", ""))


def test_h2load_log_with_another_http_status_is_a_failure(tmp_path):
    log = write(tmp_path / "log", "1000\t200\t50\n1000\t503\t50\n1000\t-1\t50\n")
    with pytest.raises(LoadFailed, match="2 of 3 requests"):
        read_h2load_log(log)


def test_perf_analyzer_report_is_read_by_column_name(tmp_path):
    report = write(tmp_path / "csv", f"{CSV_HEAD}\n16,12150.9,5,1235,2000,3000,4234\n")
    load = read_perf_analyzer(report, "  Client: \n    Request count: 90428\n")
    assert (load.requests, load.requests_per_s) == (90_428, 12_150.9)
    assert (load.p50_us, load.p99_us) == (1235.0, 4234.0)


def test_perf_analyzer_without_a_report_fails_with_what_it_said(tmp_path):
    with pytest.raises(LoadFailed, match="failed to get model metadata"):
        read_perf_analyzer(tmp_path / "none", "error: failed to get model metadata")
