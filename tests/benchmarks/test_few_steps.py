"""Few steps: which runs are requested, for any samplers."""

import pytest

from benchmarks import few_steps
from benchmarks.core.experiments import params_with
from benchmarks.core.ledger import Ledger
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.spacing import SPACINGS


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("most", [3, 10, 21])
def test_runs_use_most_steps_within_the_evaluation_budget(name, most):
    found = list(few_steps.runs([name], ["even", "karras"], [most], max_steps=20))
    entry = SAMPLERS[name]
    (n_steps,) = {n_steps for *_, n_steps in found}
    assert entry.min_steps <= n_steps <= 20
    assert entry.evaluations(n_steps) <= most
    assert n_steps == 20 or entry.evaluations(n_steps + 1) > most
    assert [spacing for _, spacing, _ in found] == ["even", "karras"][: 1 if n_steps == 20 else 2]


def test_runs_start_cheapest_and_skip_too_few_evaluations():
    found = list(few_steps.runs(["ancestral", "heun"], ["even"], [50, 1], max_steps=200))
    assert found == [("ancestral", "even", 1), ("ancestral", "even", 50), ("heun", "even", 25)]


def test_experiment_sets_the_params_of_its_row():
    experiment = few_steps.experiment("settings", 1.0, "ddim", "karras", 7, 3)
    assert experiment.cell == {
        "settings": "settings",
        "guidance_scale": 1.0,
        "sampler": "ddim",
        "spacing": "karras",
        "n_steps": 7,
        "seed": 3,
        "evaluations": 7,
    }
    params = params_with(experiment.changes)
    chosen = params.sample.unet
    assert (chosen.guidance_scale, chosen.sampler, chosen.spacing, chosen.n_steps) == (1.0, "ddim", "karras", 7)
    assert (params.seed, params.evaluate_unet.reference) == (3, "held_out")
    assert set(SPACINGS) >= {"even", "karras"}


def test_table_is_split_by_guidance_scale():
    rows = [
        {"guidance_scale": scale, "sampler": "ddim", "spacing": "even", "n_steps": n, "evaluations": n, "seed": "0"}
        | dict.fromkeys(few_steps.SHOWN, score)
        | {f"{metric}_floor": "0.05" for metric in few_steps.SHOWN}
        for scale, n, score in (("1.5", "10", "0.3"), ("1.5", "5", "0.4"), ("1.0", "5", "0.6"))
    ]
    text = few_steps.markdown(rows)
    guided, unguided = text.split("Guidance scale 1.0:")
    assert guided.index("| ddim | even | 5 | 5 | 1 | 0.4 |") < guided.index("| ddim | even | 10 | 10 | 1 | 0.3 |")
    assert "| ddim | even | 5 | 5 | 1 | 0.6 |" in unguided
    assert "fid_classifier 0.05" in text


def test_figure_shows_one_guidance_scale_and_real_images(tmp_path, monkeypatch):
    """The first scale's curve: the score of the samples by evaluations, and that of real images."""
    monkeypatch.chdir(tmp_path)
    ledger, drawn = Ledger(tmp_path / "few_steps.csv", few_steps.LEDGER.key), []
    for scale, n, score in ((1.5, 5, 0.75), (1.5, 10, 0.5), (1.0, 5, 0.875)):
        cell = dict(zip(ledger.key, ("s", scale, "ddim", "even", n, 0), strict=True))
        floors = {f"{metric}_floor": 0.25 for metric in few_steps.SHOWN}
        ledger.add(cell, {"evaluations": n, **dict.fromkeys(few_steps.SHOWN, score), **floors})
    monkeypatch.setattr(few_steps, "LEDGER", ledger)
    monkeypatch.setattr(few_steps, "insert", lambda *_: None)
    monkeypatch.setattr(few_steps, "save", lambda figure, _: drawn.append(figure))
    few_steps.report()
    [panel] = drawn[0].axes
    assert [line.get_xydata().tolist() for line in panel.lines if line.get_marker() == "o"] == [[[5, 0.75], [10, 0.5]]]
    assert [line.get_ydata()[0] for line in panel.lines if line.get_linestyle() == "--"] == [0.25]
