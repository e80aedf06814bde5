"""benchmarks/ablation.py: what it asks DVC for, what it makes of the answers, and that no failure is dropped."""

import json
import subprocess
import sys
from itertools import product

import pytest
from dvc.utils.hydra import apply_overrides
from project import REPO
from ruamel.yaml import YAML

from ddpm import recipes
from ddpm.run.params import load_params

sys.path.append(str(REPO / "benchmarks"))
import ablation
from ablation_report import PREDICTIONS, VARIANCES, WEIGHTINGS, figure, table

CELLS = [ablation.Cell(*cell) for cell in product(PREDICTIONS, WEIGHTINGS, VARIANCES, range(3))]
EPS = ablation.Cell("eps", "simple", "learned", 1)
GOOD = [
    {"eval_loss": 0.5, "steps": 3},
    {"fid_fashion_cnn": 4.0, "fid_fashion_cnn_floor": 0.25},
    {"learned": {"train": {"bits_per_dim": 1.0}, "test": {"bits_per_dim": 3.0}}},
]
DIVERGED = (
    "train_unet: training diverged: the loss at step 3 of 9 is nan, with lr 0.1 and batch_size 64; try a smaller lr"
)
LOG = f"Running stage 'train_unet':\n{DIVERGED}\n\nERROR: failed to reproduce 'train_unet': exited with 2\n"


@pytest.mark.parametrize("cell", [CELLS[0], CELLS[-1], EPS])
def test_dvc_makes_of_the_words_what_the_name_is_made_of(cell, tmp_path, monkeypatch):
    monkeypatch.chdir(REPO)
    yaml = YAML(typ="safe")
    params = yaml.load(REPO / "params.yaml")
    yaml.dump(params, tmp_path / "params.yaml")
    changes = recipes.merged(recipes.load("ablation"), ablation.changes(cell))
    apply_overrides(str(tmp_path / "params.yaml"), recipes.overrides(changes)[1::2])
    assert yaml.load(tmp_path / "params.yaml") == recipes.merged(params, changes)
    checked = load_params(tmp_path / "params.yaml")  # every key is known, every value allowed
    assert checked.seed == cell.seed
    assert checked.train_unet.prediction == cell.prediction
    assert checked.train_unet.weighting == cell.weighting
    assert checked.train_unet.learn_variance == (cell.variance == "learned")
    assert checked.sample.unet.variance == cell.variance
    assert checked.bound.variances == [cell.variance]


def test_names_tell_cells_seeds_and_settings_apart():
    names = [cell.experiment({"lr": lr}) for cell in CELLS for lr in (0.1, 0.2)]
    assert len(set(names)) == 2 * len(CELLS) == 2 * 48
    assert names[0] == CELLS[0].experiment({"lr": 0.1})
    for name in names:
        subprocess.run(["git", "check-ref-format", f"refs/exps/{name}"], check=True)


def test_what_changes_no_result_is_left_out_of_a_name():
    section = {"lr": 0.1, "checkpoint_seconds": 60}
    assert ablation.decisive(section) == {"lr": 0.1}
    assert ablation.decisive(60) == 60


def test_a_row_has_the_bound_of_its_own_variance():
    row = ablation.row("name", EPS, GOOD)
    assert row["failure"] == ""
    assert [float(row[key]) for key in ablation.MEASURES] == [4.0, 0.25, 3.0, 0.5]
    assert ablation.row("name", EPS, GOOD[:2])["bits_per_dim"] == ""


def test_a_quality_that_is_no_number_is_a_failure():
    row = ablation.row("name", EPS, [*GOOD[:1], {"fid_fashion_cnn": float("nan")}])
    assert row["failure"] == "fid_fashion_cnn is nan"


def test_the_reason_is_the_stages_own_line():
    assert ablation.reason(LOG) == DIVERGED
    assert ablation.reason("a\n\nERROR: no space left\n") == "ERROR: no space left"


def test_what_has_ended_is_collected_once_and_a_killed_run_is_not(tmp_path, monkeypatch):
    """Experiments are git references, as DVC keeps them: one that ended, one that diverged, one that was killed."""
    monkeypatch.chdir(tmp_path)
    cells = {cell.experiment({}): cell for cell in (EPS, *CELLS[:2])}
    done, diverged, killed = cells
    for stage, values in zip(ablation.MEASURED, GOOD, strict=True):
        (tmp_path / f"reports/{stage}").mkdir(parents=True)
        (tmp_path / f"reports/{stage}/metrics.json").write_text(json.dumps(values))
    as_somebody = ("-c", "user.name=t", "-c", "user.email=t@t")
    for words in (("init", "-q"), ("add", "."), (*as_somebody, "commit", "-qm", "x")):
        ablation.git(*words)
    ablation.git("update-ref", f"refs/exps/12/345678/{done}", "HEAD")
    logs = {diverged: LOG, killed: "train_unet: stopped (Terminated) after step 2\n"}
    monkeypatch.setattr(ablation, "dvc", lambda *words: logs[words[-1]])
    rows = {}
    assert ablation.collect(cells, rows, {diverged: "Failed", killed: "Failed"}) == [done, diverged]
    assert rows[done]["fid_fashion_cnn"] == "4.0"
    assert rows[diverged]["failure"] == DIVERGED
    assert ablation.collect(cells, rows, {diverged: "Failed", killed: "Failed"}) == []
    assert [row["experiment"] for row in ablation.read(ablation.REPORTS / "ablation.csv")] == [done, diverged]


def test_a_worker_that_has_ended_is_started_again(monkeypatch):
    """Three runs for two workers, of which one ends early: DVC is asked for both while fewer are busy than may be."""
    names = ["ablation-a", "ablation-b", "ablation-c"]
    looks = [("Queued", "Queued", "Queued"), ("Running", "Running", "Queued"), ("Success", "Running", "Queued")]
    looks += [("Success", "Running", "Running"), ("Success", "Success", "Success")]
    seen, asked = [], []

    def queue():
        seen.append(dict(zip(names, looks[len(seen)], strict=True)))
        return seen[-1]

    def collect(_wanted, rows, states):
        rows.update(dict.fromkeys((name for name, state in states.items() if state == "Success"), GOOD))
        return []

    monkeypatch.setattr(ablation, "SECONDS", 0.0)
    monkeypatch.setattr(ablation, "queue", queue)
    monkeypatch.setattr(ablation, "collect", collect)
    monkeypatch.setattr(ablation, "dvc", lambda *words: asked.append((len(seen), *words)))
    ablation.wait(dict.fromkeys(names, EPS), {}, jobs=2)
    assert asked == [(look, "queue", "start", "--jobs", "2") for look in (1, 3)]


def test_the_table_keeps_failures_and_means_of_what_is_left(tmp_path):
    cells = [ablation.Cell("eps", "simple", "learned", seed) for seed in range(3)]
    rows = [
        ablation.row("a", cells[0], GOOD),
        ablation.row("b", cells[1], [{"fid_fashion_cnn": 2.0, "fid_fashion_cnn_floor": 0.25, "eval_loss": 0.7}]),
        ablation.row("c", cells[2], failure=DIVERGED),
        ablation.row("d", ablation.Cell("mean", "bound", "fixed_small", 0), failure=DIVERGED),
    ]
    lines = table(rows, "N = 9").splitlines()
    assert "| eps | simple | learned | 3 (2 to 4) | 3 (3 to 3) | 0.6 (0.5 to 0.7) | 1 of 3 |" in lines
    assert "| mean | bound | fixed_small | - | - | - | 1 of 1 |" in lines
    assert f"- eps, simple, learned, seed 2: {DIVERGED}" in lines
    drawn = figure(rows, "N = 9")
    ablation.save(drawn, tmp_path / "ablation.png")
    marks = {"x": 0, "o": 0}
    for line in (line for axes in drawn.axes for line in axes.lines if line.get_marker() in marks):
        marks[line.get_marker()] += len(line.get_xdata())
    assert marks == {"x": 2, "o": 2}
