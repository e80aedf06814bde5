"""Stage controls: the images it judges, and that it reports controls that a metric misses."""

import json
import logging
from pathlib import Path

import torch
from project import REPO
from workbench import greys, run, save_split

REPORT = Path("reports/controls/controls.json")
FOUND = {
    "grid": {"defect": "a grid", "metrics": {"sharp": {"must": True, "seen": True}}},
    "darker": {"defect": "dark", "metrics": {"blind": {"must": True, "seen": False}}},
}


def test_stage_judges_own_splits_and_reports_missed_controls(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    images = {split: greys(first, 3) for split, first in (("train", 10), ("held_out", 20), ("test", 30))}
    for split, each in images.items():
        save_split(split, each)
    judged = []

    def judge(*args):
        judged.append(args)
        return FOUND

    caplog.set_level(logging.WARNING)
    stage = run("controls", {"n_images": 300}, judge=judge, load_classifier=lambda path: (path, "digest"))
    ((params, splits, classifier, seed),) = judged
    assert splits.keys() == images.keys()
    assert all(torch.equal(splits[split].images, each) for split, each in images.items())
    assert (params.n_images, classifier, seed) == (300, Path("models/classifier.safetensors"), stage.seed)
    assert json.loads(REPORT.read_text()) == FOUND
    assert stage.log.metrics == {"missed": 1}
    assert "blind: darker" in caplog.text
    assert "sharp" not in caplog.text


def test_committed_metrics_miss_no_control():
    assert json.loads((REPO / "metrics.json").read_text())["missed"] == 0
