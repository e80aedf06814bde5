"""The scaling report: what is measured is not also predicted, and the figure shows linear scaling."""

from benchmarks.scaling import drawn, here

ONE = {"step_1": 0.3, "step_2": 0.5, "draw": 1.0, "start": 3.0}
TWO = {"step_2": 0.35, "draw": 1.25, "start": 3.5, "gradient": 8e6, "message": 0.001, "gather": 0.009}


def test_report_predicts_only_two_processes():
    result = here(ONE, TWO)
    # 0.2 s for a micro-batch, 0.1 s of per-process work, 9 ms for the gradient, and 4 batches of 64 samples
    assert result.tables.splitlines()[-2:] == [
        "| 1 | 2.00 | - | 64.0 | - |",
        "| 2 | 2.86 | 3.24 | 102.4 | 128.0 |",
    ]
    assert (result.steps, result.samples) == (
        {"this machine": {1: 2.0, 2: 1 / 0.35}},
        {"this machine": {1: 64, 2: 102.4}},
    )


def test_report_states_longer_start_only():
    assert "| 0.5 s more than with one |" in here(ONE, TWO).tables
    assert "| no more than with one |" in here(ONE, TWO | {"start": 2.9}).tables


def test_figure_shows_linear_scaling_beside_each_curve():
    figure = drawn({"training steps/s": {"a": {1: 2.0, 8: 12.0}}, "samples/s": {"b": {1: 5.0, 2: 9.0}}})
    lines = [[line.get_xydata().tolist() for line in axes.lines] for axes in figure.axes]
    assert lines == [[[[1, 2], [8, 16]], [[1, 2], [8, 12]]], [[[1, 5], [2, 10]], [[1, 5], [2, 9]]]]
    assert {scale for axes in figure.axes for scale in (axes.get_xscale(), axes.get_yscale())} == {"log"}
