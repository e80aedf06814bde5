"""Table 2: what its cells change, and that failures are reported."""

import pytest

from benchmarks import ablation
from benchmarks.core.experiments import params_with
from benchmarks.core.ledger import Ledger

METRICS = {
    "train_unet": {"eval_loss": 0.5, "steps": 3},
    "evaluate_unet": {"fid_classifier": 4.0, "fid_classifier_floor": 0.25},
    "bound": {"learned": {"train": {"bits_per_dim": 1.0}, "test": {"bits_per_dim": 3.0}}},
}
DIVERGED = "train_unet: training diverged: the loss at step 3 of 9 is nan"


def row(prediction="eps", weighting="simple", variance="learned", seed=0, failure="", **scores):
    cell = {"settings": "s", "prediction": prediction, "weighting": weighting, "variance": variance, "seed": str(seed)}
    return {**cell, "failure": failure, **{key: str(value) for key, value in scores.items()}}


ROWS = [
    row(fid_classifier=4.0, bits_per_dim=3.0, eval_loss=0.5, fid_classifier_floor=0.25),
    row(seed=1, fid_classifier=2.0, bits_per_dim="", eval_loss=0.7, fid_classifier_floor=0.25),
    row(seed=2, failure=DIVERGED),
    row("mean", "bound", "fixed_small", failure=DIVERGED),
]


@pytest.mark.parametrize(
    "cell", [("eps", "simple", "learned", 1), ("mean", "bound", "fixed_small", 0), ("v", "bound", "learned", 2)]
)
def test_cell_sets_its_params(cell):
    experiment = ablation.experiment("settings", ablation.recipes.load("ablation"), *cell)
    assert tuple(experiment.cell.values()) == ("settings", *cell)
    params = params_with(experiment.changes)  # every key is known, every value allowed
    prediction, weighting, variance, seed = cell
    training = params.train_unet
    assert (params.seed, training.prediction, training.weighting) == (seed, prediction, weighting)
    assert training.options("network").learn_variance == (variance == "learned")
    assert (params.sample.unet.sampler, params.sample.unet.options("sampler").variance) == ("ancestral", variance)
    assert params.bound.variances == [variance]
    assert params.evaluate_unet.reference == "held_out"  # no search on the test split


def test_measures_include_the_bound_of_the_trained_variance():
    expected = {"fid_classifier": 4.0, "fid_classifier_floor": 0.25, "bits_per_dim": 3.0, "eval_loss": 0.5}
    assert ablation.measures({}, METRICS) == expected


def test_table_lists_failures_and_averages_the_rest():
    lines = ablation.markdown(ROWS).splitlines()
    assert "| eps | simple | learned | 2 | 3 ± 1.4 | 3 | 0.6 ± 0.14 |" in lines
    assert "2 of 4 runs failed." in lines
    assert f"- eps, simple, learned, seed 2: {DIVERGED}" in lines
    assert f"- mean, bound, fixed_small, seed 0: {DIVERGED}" in lines


def test_report_uses_latest_settings_and_successful_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ledger = Ledger(tmp_path / "ablation.csv", ablation.LEDGER.key)
    for each in ({**ROWS[0], "settings": "old", "fid_classifier": "99"}, *ROWS):
        ledger.add({key: each[key] for key in ledger.key}, {k: v for k, v in each.items() if k not in ledger.key})
    drawn = []
    monkeypatch.setattr(ablation, "LEDGER", ledger)
    monkeypatch.setattr(ablation, "insert", lambda _, text: drawn.append(text))
    monkeypatch.setattr(ablation, "save", lambda figure, _: drawn.append(figure))
    ablation.report()
    text, figure = drawn
    assert "99" not in text
    (panel,) = figure.axes
    assert panel.get_title(loc="left") == "prediction: eps"
    assert [line.get_ydata().tolist() for line in panel.lines if line.get_marker() == "o"] == [[3.0]]
    assert [line.get_ydata()[0] for line in panel.lines if line.get_linestyle() == "--"] == [0.25]  # real images
