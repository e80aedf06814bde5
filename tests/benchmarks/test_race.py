"""The race: rows are computed once, for as many steps as the minutes allow, and scored by every metric."""

from argparse import Namespace

import pytest
import torch

from benchmarks.core import race as module
from benchmarks.core.ledger import Ledger
from benchmarks.core.peer import passes
from benchmarks.core.rates import Rates
from ddpm import recipes
from ddpm.data.dataset import ImageDataset
from ddpm.run.compute import Compute
from ddpm.run.files import load_tensors
from ddpm.run.stage import StageRun
from ddpm.run.tracking.record import Run

RATE = {"seconds_per_image": "0.5", "batch_size": "2", "set_up_seconds": "0", "set_up_counts": "False"}  # 60 a minute
BASE = {"evaluate_unet": {"reference": "held_out"}}


@pytest.fixture
def made(toy, tmp_path, monkeypatch):
    """Step counts of scored samples, in a race of a toy trainee."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "DATA", {"train": "train", "test": "test"})
    monkeypatch.setattr(module, "load_dataset", lambda _: ImageDataset(torch.zeros(8, 1, 1, 1, dtype=torch.uint8)))
    monkeypatch.setattr(module, "md5", lambda path: f"{path} is there")
    evaluation = Namespace(n_samples=200, model_dump=lambda: {"n_samples": 200})
    monkeypatch.setattr(module, "params_with", lambda _: Namespace(evaluate_unet=evaluation, seed=0))
    monkeypatch.setattr(module, "collect", lambda *_, **__: None)
    found = []

    def scored(samples, *_):
        assert samples.shape == (2 * module.BATCH, 1, 1, 1)
        assert samples.flatten().tolist() == [40] * module.BATCH + [41] * module.BATCH  # of batches 0 and 1, seed 4
        found.append(len(toy.taken))
        return {"fid_classifier": 0.5, "fid_classifier_floor": 0.1, "a_new_metric": 0.25}

    monkeypatch.setattr(module, "scored", scored)
    toy.draw = lambda number, seed: torch.full((module.BATCH, 1, 1, 1), (10 * seed + number) / 255)
    return found


def test_peer_rows_are_computed_once_and_share_training(toy, made, tmp_path, monkeypatch):
    ledger, rates = Ledger(tmp_path / "rows.csv", module.KEY), Rates(tmp_path / "rates.csv")
    rates.add({"contender": toy.name, "settings": toy.settings, "measured": "today"}, RATE)

    def run(phase, *minutes):
        asked = Namespace(phase=phase, minutes=minutes, jobs=1, remote=None)
        module.race(asked, ledger, rates, [], {toy.name: [4]}, BASE, [toy])

    run("run", 2.0, 1.0)
    assert made == [60, 120]  # the longer training resumes the shorter one
    run("run", 1.0, 2.0, 5.0, 5.001)
    assert made[2:] == [300]  # one training and one set of samples for two rows
    monkeypatch.setattr(Rates, "measure", lambda *_: None)
    run("rate", 10.0)
    assert len(made) == 3
    assert [(row["minutes"], row["n_steps"], row["a_new_metric"]) for row in ledger.rows()] == [
        ("1", "60", "0.25"),
        ("2", "120", "0.25"),
        ("5", "300", "0.25"),
        ("5.001", "300", "0.25"),
    ]
    assert len({row["judge"] for row in ledger.rows()}) == 1


@pytest.mark.usefixtures("made")
def test_samples_and_trainings_of_seeds_and_judges_are_kept_apart(toy, tmp_path, monkeypatch):
    ledger, rates = Ledger(tmp_path / "rows.csv", module.KEY), Rates(tmp_path / "rates.csv")
    rates.add({"contender": toy.name, "settings": toy.settings, "measured": "today"}, RATE)
    asked = Namespace(phase="run", minutes=[1.0], jobs=1, remote=None)
    folders = []
    monkeypatch.setattr(module, "passes", lambda *given: folders.append(given[-1]) or passes(*given))
    monkeypatch.setattr(module, "scored", lambda *_: {})
    for changed in ("none", *module.DATA.values(), module.CLASSIFIER):
        monkeypatch.setattr(module, "md5", lambda path, changed=changed: str(path) + "!" * (path == changed))
        module.race(asked, ledger, rates, [], {toy.name: [0, 1]}, BASE, [toy])
    rows = ledger.rows()
    assert len({row["judge"] for row in rows}) == 4
    assert len({module.samples_of(row) for row in rows}) == len({*folders}) == 2  # one of each seed
    for row in rows:
        values = load_tensors(module.samples_of(row))["samples"].flatten().tolist()
        assert values == [10 * int(row["seed"])] * module.BATCH + [10 * int(row["seed"]) + 1] * module.BATCH


def test_peers_are_scored_as_the_stage_scores_seeds_samples(monkeypatch):
    """With the stage's own seed, as derived by StageRun."""
    asked = []
    monkeypatch.setattr(module, "compare", lambda *given: asked.append(given) or (None, None))
    monkeypatch.setattr(module, "all_scores", lambda _: None)
    monkeypatch.setattr(module, "as_metrics", lambda _: {"fid": 1.0})
    params = Namespace(evaluate_unet="its section", seed=5)
    assert module.scored("pixels", params, "splits") == {"fid": 1.0}
    [(section, sets, splits, classifier, seed, _)] = asked
    assert (section, sets, splits, classifier) == ("its section", {"samples": "pixels"}, "splits", module.CLASSIFIER)
    assert seed == StageRun("evaluate_unet", None, 5, Compute(), Run()).seed


def test_experiments_last_as_many_steps_as_minutes_allow(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "settings", lambda _stages, changes: str(recipes.overrides(changes)))
    rates = Rates(tmp_path / "rates.csv")
    monkeypatch.chdir(tmp_path)
    rates.add({"contender": toy.name, "settings": toy.settings, "measured": "today"}, RATE)
    toy.changes = {"train_unet": {"lr": 0.5, "warmup_steps": 60}}
    toy.params = Namespace(train_unet=Namespace(epochs=1.0, batch_size=2, warmup_steps=60))
    found = list(module.experiments(rates, [toy], {toy.name: [0, 1]}, BASE, "judge", 240, [2.0, 1.0]))
    assert [(each.cell["minutes"], each.cell["seed"], each.cell["n_steps"]) for each in found] == [
        ("1", 0, 60),
        ("2", 0, 120),
        ("1", 1, 60),
        ("2", 1, 120),
    ]
    assert len({each.cell["settings"] for each in found}) == 1
    assert found[2].changes == {
        "evaluate_unet": {"reference": "held_out"},
        "seed": 1,
        "train_unet": {"lr": 0.5, "epochs": 0.5, "warmup_steps": 30},
    }


def test_current_keeps_rows_of_latest_judge_and_rate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ledger = Ledger(tmp_path / "rows.csv", module.KEY)
    for values in (
        ("a", "s", "old", 1, 0, 60),
        ("a", "s", "new", 1, 0, 60),
        ("b", "s", "new", 1, 0, 50),  # of an old rate
        ("b", "s", "new", 1, 0, 60),
        ("b", "s", "new", 1, 1, 60),
    ):
        ledger.add(dict(zip(module.KEY, values, strict=True)), {})
    assert module.current(ledger) == [row for row in ledger.rows() if (row["judge"], row["n_steps"]) == ("new", "60")]
