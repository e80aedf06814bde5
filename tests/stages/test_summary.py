"""Stage summary: which reported numbers become headline metrics."""

import json
from pathlib import Path

import pytest
from project import REPO
from workbench import declared, run

from ddpm import NoiseSchedule, Unet, UnetConfig, save_model
from ddpm.evaluation.metric import METRICS
from ddpm.run.files import write_json

SHORT = {"auc", "recall", "fid", "patches", "copies"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {name: i / 100 for i, name in enumerate(METRICS, start=1)} | {"worst_auc": 0.9, "worst_auc_floor": 0.51}
    write_json(Path("reports/evaluate_unet/metrics.json"), values)
    write_json(Path("reports/evaluate_unet/scores.json"), {"reference": "held_out", "n_samples": 77, "metrics": {}})
    test = {name: {"test": {"bits_per_dim": bits}} for name, bits in (("fixed_large", 4.0), ("fixed_small", 3.68189))}
    write_json(Path("reports/bound/metrics.json"), test)
    write_json(Path("reports/train_unet/metrics.json"), {"eval_loss": 0.15239, "train_loss": 7.0})
    write_json(Path("reports/evaluate_tiny/metrics.json"), {"excess_loss_relative": 0.02081, "excess_loss": 7.0})
    found = {"auc_8_bit": {"must": True, "seen": False}, "recall_classifier": {"must": False, "seen": False}}
    write_json(Path("reports/controls/controls.json"), {"ground": {"defect": "a ground", "metrics": found}})
    model = Unet(UnetConfig(img_shape=(1, 4, 6), max_steps=10, channels=8, dim_mults=(1, 2), groups=2, heads=1))
    model.noise_schedule = NoiseSchedule(10)
    save_model(Path("models/unet.safetensors"), model, {})
    return values


def test_headline_metrics_come_from_their_reports(folder):
    stage = run("summary")
    metrics = json.loads(Path("metrics.json").read_text())
    assert metrics.keys() == SHORT | {"auc_real", "bits_dim", "loss", "missed", "excess"}
    others = {"auc_real": 0.51, "bits_dim": 3.6819, "loss": 0.1524, "missed": 1, "excess": 0.0208}
    assert {key: metrics[key] for key in others} == others
    tests = [value for name, value in folder.items() if name.startswith("auc_")]
    assert len(tests) > 1
    assert metrics["auc"] == max(tests)
    assert metrics["recall"] == folder["recall_classifier"]
    assert stage.log.summary == (metrics, Path("reports/figures/unet_samples.png"))


@pytest.mark.usefixtures("folder")
def test_model_is_logged_with_sampling_settings():
    changes = {"sampler": "ddim", "n_steps": 7, "spacing": "karras", "clip_sample": False, "ddim": {"eta": 0.5}}
    assert declared("summary")[0].key == "sample.unet"
    path, about = run("summary", changes).log.model
    assert path == Path("models/unet.safetensors")
    assert (about["img_shape"], about["headline"]) == ((1, 4, 6), "auc")
    assert about["metrics"] == json.loads(Path("metrics.json").read_text())
    settings = {key: about["settings"][key] for key in changes if key != "ddim"}
    assert settings == {key: value for key, value in changes.items() if key != "ddim"}
    assert about["settings"]["options"] == {"eta": 0.5}
    judged = {"data.name": "fashion_mnist", "data.path": "null", "train_unet.conditioning": "null"}
    assert about["judged_by"] == judged | {
        "evaluate_unet.epochs": "8",
        "evaluate_unet.reference": "held_out",
        "evaluate_unet.n_samples": "77",
    }


def test_inapplicable_score_is_left_out(folder):
    del folder["fid_classifier"]
    write_json(Path("reports/evaluate_unet/metrics.json"), folder)
    run("summary")
    assert "fid" not in json.loads(Path("metrics.json").read_text())


def test_every_headline_metric_is_documented():
    page = (REPO / "docs/evaluation.md").read_text()
    assert {metric.headline for metric in METRICS.values()} - {""} == SHORT
    for name in SHORT | {"auc_real", "bits_dim", "loss", "missed", "excess"}:
        assert f"| `{name}` |" in page
