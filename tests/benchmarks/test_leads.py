"""Leads: each is one change to the default, and counts as different only beyond the spread over seeds."""

from argparse import Namespace

import pytest

from benchmarks import leads
from benchmarks.core.experiments import params_with
from ddpm import recipes
from ddpm.run.params import PARAMS
from ddpm.run.yaml import load_yaml

VALUES = {"auc_16_levels": "0.7", "auc_high_pass": "0.8", "fid_classifier": "0.9", "recall_classifier": "0.6"}
FLOORS = {f"{metric}_floor": "0.5" for metric in ("worst_auc", *VALUES)}


def row(name, minutes, score, seed=0):
    scores = {"worst_auc": str(score), **VALUES}
    return {"contender": name, "minutes": f"{minutes:g}", "seed": str(seed), **scores, **FLOORS}


@pytest.mark.parametrize("name", leads.LEADS)
def test_leads_are_valid_and_differ_from_default(name):
    params = params_with(recipes.merged(leads.BASE, leads.LEADS[name]))
    assert params.evaluate_unet.reference == "held_out"  # no search on the test split
    default = recipes.overrides(load_yaml(PARAMS))[1::2]
    assert set(default).isdisjoint(recipes.overrides(leads.LEADS[name])[1::2])


def test_leads_are_unique():
    changes = {tuple(recipes.overrides(changes)) for changes in leads.LEADS.values()}
    assert len(changes) == len(leads.LEADS)


def test_verdict_requires_difference_beyond_seed_spread():
    default = [3.0, 3.1, 3.2]  # standard deviation 0.1, so standard error of a difference 0.082 with as much beside it
    assert leads.verdict([2.6, 2.7, 2.8], default) == " (better)"  # t = -4.9
    assert leads.verdict([2.9, 3.0, 3.1], default) == " (no clear difference)"  # t = -1.2
    assert leads.verdict([3.4, 3.5, 3.6], default) == " (worse)"
    assert leads.verdict([9.0], default) == ""
    # Welch's t is (2.4 - 3.05) / sqrt(0.32 / 2 + 0.0027 / 12) = -1.6. With equal variances it would be -5.0.
    assert leads.verdict([2.0, 2.8], [3.0, 3.1] * 6) == " (no clear difference)"


def test_table_has_a_line_per_lead_and_minutes():
    names = ["x0", leads.DEFAULT]
    rows = [row(name, 10, 9.0) for name in names]
    rows += [
        row(name, 2, score + seed / 10, seed) for name, score in zip(names, (4, 3), strict=True) for seed in (0, 2)
    ]
    lines = leads.markdown(rows, dict.fromkeys(names, 99.6)).splitlines()
    assert lines[2:6] == [
        "| 2 | the default |  | 100 | 3.1 ± 0.14 | 0.7 ± 0 | 0.8 ± 0 | 0.9 ± 0 | 0.6 ± 0 |",
        "| 2 | x0 | train_unet.prediction=x0 | 100 | 4.1 ± 0.14 (worse) | 0.7 ± 0 | 0.8 ± 0 | 0.9 ± 0 | 0.6 ± 0 |",
        "| 10 | the default |  | 100 | 9 | 0.7 | 0.8 | 0.9 | 0.6 |",
        "| 10 | x0 | train_unet.prediction=x0 | 100 | 9 | 0.7 | 0.8 | 0.9 | 0.6 |",
    ]
    assert "min_snr" not in "".join(lines)


def test_report_states_images_per_second_of_known_leads(monkeypatch):
    made = []
    monkeypatch.setattr(leads, "current", lambda _: [row(leads.DEFAULT, 2, 3.0), row("an old lead", 2, 3.0)])
    rates = [{"contender": name, "seconds_per_image": "0.008"} for name in (leads.DEFAULT, "an old lead")]
    monkeypatch.setattr(leads, "RATES", Namespace(rows=lambda: rates))
    monkeypatch.setattr(leads, "insert", lambda _, text: made.append(text))
    leads.report()
    assert "| 2 | the default |  | 125 | 3 |" in made[0]
    assert "an old lead" not in made[0]
