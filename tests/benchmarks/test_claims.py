"""Claims: verdicts and intervals against SciPy, validation of claims.yaml, and which experiments are run."""

import json
from copy import deepcopy

import pytest
from project import REPO
from scipy import stats

from benchmarks import claims as command
from benchmarks.core.claims import Claims, interval, judge, load_claims
from benchmarks.core.experiments import params_with
from ddpm.errors import UserError
from ddpm.run.params import validated
from ddpm.run.yaml import dump_yaml, load_yaml

STATED = {
    "stages": ["train", "evaluate"],
    "seeds": [0, 1, 2],
    "variants": {"small": {"train": {"lr": 0.1}}, "large": {}},
    "claims": [
        {
            "claim": "small is better",
            "source": "section 1",
            "better": {"variant": "small", "measure": "evaluate/fid"},
            "than": {"variant": "large", "measure": "evaluate/fid"},
            "direction": "lower",
        }
    ],
}
DOORS = sorted(path.parent.name for path in REPO.glob("doors/*/claims.yaml"))


def stated(**changes):
    return validated(Claims, STATED | changes, "claims.yaml")


def rows(small, large, failure=""):
    values = {"small": small, "large": large}
    return [
        {"settings": "s", "variant": name, "seed": str(seed), "failure": failure, "evaluate/fid": str(value)}
        for name, runs in values.items()
        for seed, value in enumerate(runs)
    ]


def test_interval_matches_scipy_ttest_1samp():
    values = [0.3, 1.4, 0.9, 2.2]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval(values) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("small", "large", "direction", "verdict"),
    [
        ([1.0, 1.1, 0.9], [2.0, 2.2, 2.1], "lower", "confirmed"),
        ([1.0, 1.1, 0.9], [2.0, 2.2, 2.1], "higher", "reversed"),
        ([2.0, 2.2, 2.1], [1.0, 1.1, 0.9], "lower", "reversed"),
        ([1.0, 2.0, 3.0], [2.0, 2.2, 2.1], "lower", "not confirmed"),
        ([1.0, 9.0, 5.0], [1.1, 9.11, 5.1], "lower", "confirmed"),  # paired by seed: shared variation cancels
    ],
)
def test_verdict_matches_scipy_paired_ttest(small, large, direction, verdict):
    claims = stated(claims=[STATED["claims"][0] | {"direction": direction}])
    result = judge(claims.claims[0], rows(small, large), claims.seeds)
    assert result.verdict == verdict
    assert (result.better, result.than) == (small, large)
    sign = -1 if direction == "lower" else 1
    expected = stats.ttest_rel([sign * v for v in small], [sign * v for v in large])
    assert result.low == pytest.approx(expected.confidence_interval().low)
    assert (expected.pvalue < 0.05) == (verdict != "not confirmed")


def test_incomplete_runs_give_no_verdict():
    claims = stated()
    for found in ([], rows([1.0, 1.0], [2.0, 2.0, 2.0]), rows([1.0] * 3, [2.0] * 3, failure="train: diverged")):
        assert judge(claims.claims[0], found, claims.seeds).verdict == "not run yet"


def test_judge_rejects_rows_without_the_measure():
    with pytest.raises(UserError, match="small, seed 0: no number under evaluate/fid"):
        judge(stated().claims[0], [{**row, "evaluate/fid": ""} for row in rows([1.0] * 3, [2.0] * 3)], [0, 1, 2])


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("seeds",), [0], "seeds is [0]; list should have at least 2 items"),
        (("claims", 0, "better", "variant"), "smal", "variant 'smal' is not one of small, large"),
        (
            ("claims", 0, "than", "measure"),
            "render/fid",
            "measure 'render/fid' is not from one of the stages train, evaluate",
        ),
        (("claims", 0, "than", "measure"), "fid_evaluate", "measure is fid_evaluate; it must be STAGE/KEY"),
        (("claims", 0, "direction"), "up", "claims.0.direction is 'up'; input should be 'lower' or 'higher'"),
        (("claim",), [], "claim is not a parameter"),
    ],
)
def test_invalid_claims_files_are_rejected(path, value, message, tmp_path):
    values = deepcopy(STATED)
    node = values
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    (tmp_path / "claims.yaml").write_text(dump_yaml(values))
    with pytest.raises(UserError) as refused:
        load_claims(tmp_path / "claims.yaml")
    assert message in str(refused.value)


@pytest.mark.parametrize("door", DOORS)
def test_door_claims_use_valid_params_and_existing_stages(door, monkeypatch):
    monkeypatch.chdir(REPO)
    claims = load_claims(REPO / f"doors/{door}/claims.yaml")
    for name in claims.variants:
        params_with(claims.changes(name), command.DOORS / door)
    assert set(claims.stages) <= set(load_yaml(REPO / f"doors/{door}/dvc.yaml")["stages"])


@pytest.fixture
def door(tmp_path, monkeypatch):
    """A door whose stages are not run but have rows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doors/toy").mkdir(parents=True)
    (tmp_path / "doors/toy/claims.yaml").write_text(dump_yaml(STATED))
    (tmp_path / "doors/toy/README.md").write_text("# Toy\n\n<!-- result -->\n\n<!-- /result -->\n")
    monkeypatch.setattr(command, "settings", lambda stages, changes, _: f"{[*stages]} {changes}")
    return "toy"


def test_report_ignores_rows_of_other_settings(door, tmp_path):
    claims, kept = stated(), command.ledger(door)
    command.report(door, claims)
    assert "not run yet" in (tmp_path / "doors/toy/README.md").read_text()
    for row in (*rows([1.0, 1.1, 0.9], [2.0, 2.2, 2.1]), *rows([5.0] * 3, [4.0] * 3)):
        about = command.settings(claims.stages, claims.changes(row["variant"]), None)
        cell = {"settings": about if float(row["evaluate/fid"]) < 3 else "old"}
        kept.add(cell | {key: row[key] for key in kept.key[1:]}, {k: row[k] for k in ("failure", "evaluate/fid")})
    command.report(door, claims)
    (found,) = json.loads((tmp_path / "benchmarks/results/claims/toy.json").read_text())["claims"]
    assert (found["claim"]["claim"], found["result"]["verdict"]) == ("small is better", "confirmed")
    assert found["result"]["better"] == [1.0, 1.1, 0.9]
    line = (tmp_path / "doors/toy/README.md").read_text().splitlines()[-3]
    assert line.startswith("| small is better | section 1 | evaluate/fid | small 1 ± 0.1 | large 2.1 ± 0.1 | 1.1 [")
    assert line.endswith("| confirmed |")


def test_experiments_cross_variants_and_seeds(door):
    wanted = command.experiments(door, stated())
    assert [(each.cell["variant"], each.cell["seed"]) for each in wanted] == [
        (name, seed) for seed in (0, 1, 2) for name in ("small", "large")
    ]
    assert wanted[2].changes == {"train": {"lr": 0.1}, "seed": 1}
    assert len({each.name("toy") for each in wanted}) == 6


def test_variants_override_common_changes(door):
    claims = stated(common={"seed": 5, "train": {"lr": 0.3, "epochs": 2.0}})
    small, large = (each.changes for each in command.experiments(door, claims)[2:4])
    assert small == {"train": {"lr": 0.1, "epochs": 2.0}, "seed": 1}
    assert large == {"train": {"lr": 0.3, "epochs": 2.0}, "seed": 1}


def test_measures_select_claimed_metrics_and_require_them():
    other = STATED["claims"][0] | {"than": {"variant": "small", "measure": "train/loss"}}
    measures = command.measures(stated(claims=[*STATED["claims"], other]))
    metrics = {"evaluate": {"fid": 2.0, "auc": 0.5}}
    assert measures({"variant": "large"}, metrics) == {"evaluate/fid": 2.0}  # no claim needs its loss
    with pytest.raises(UserError, match="train/loss was not measured; choose from: evaluate/auc, evaluate/fid"):
        measures({"variant": "small"}, metrics)
    metrics["train"] = {"loss": 1.0}
    assert measures({"variant": "small"}, metrics) == {"evaluate/fid": 2.0, "train/loss": 1.0}
