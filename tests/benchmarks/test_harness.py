import pytest
from _harness import BenchmarkFailed, run_benchmark


@pytest.mark.parametrize("code", [0, 1])
def test_code_of_a_benchmark_that_measured_is_its_own(code):
    with pytest.raises(SystemExit) as ended:
        run_benchmark(lambda: code)
    assert ended.value.code == code


@pytest.mark.parametrize("error", [BenchmarkFailed("no h2load"), KeyError("a mistake of ours")])
def test_benchmark_that_could_not_measure_ends_with_2_and_says_why(error, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as ended:
        run_benchmark(main)
    assert ended.value.code == 2
    assert str(error.args[0]) in capsys.readouterr().out
