"""docs/extending.md: a sampler, a data set, a network, a metric and a stage are one file each."""

import json
import re
import sys

import pytest
from clone import FORKING_DVC, Clone
from project import NOWHERE, REPO, write_params

from ddpm.run.yaml import load_yaml

FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", (REPO / "docs/extending.md").read_text(), re.DOTALL))
JOURNEYS = {
    "src/ddpm/sampling/samplers/euler.py",
    "src/ddpm/data/datasets/stripes.py",
    "src/ddpm/networks/architectures/convnet.py",
    "src/ddpm/evaluation/metrics/brightness.py",
    "stages/average.py",
}


@pytest.fixture(scope="module")
def clone(repro, images, stage_environment):
    """A clone that has run, with the five files added and nothing else, and run again."""
    made = Clone(repro / "copy", stage_environment | {"MLFLOW_TRACKING_URI": NOWHERE}, images)
    made.before = made.plans()
    for name, text in FILES.items():
        (made.folder / name).write_text(text)
    made.run("env", "PYTHONPATH=src", "python", "-m", "ddpm.run.dvc")
    made.run("dvc", "repro", "check")
    made.added = made.plans()
    write_params(
        made.folder,
        {
            "data": {"name": "stripes", "path": None},
            "train_unet": {"network": "convnet", "conditioning": None, "convnet": {"width": 8}},
            "sample": {"unet": {"sampler": "euler", "guidance_scale": 1.0, "spacing": "even"}},
            "study_samplers": {"samplers": None},
        },
    )
    (made.folder / ".git/dvc").write_text(FORKING_DVC)
    made.run("env", "PYTHONPATH=src", sys.executable, ".git/dvc", "dvc.yaml")
    made.planned = made.plans()
    return made


def test_extending_page_has_one_file_per_journey():
    assert FILES.keys() == JOURNEYS


def test_new_files_change_only_plans_of_stages_that_use_them(clone):
    changed = {stage for stage, plan in clone.before.items() if clone.added[stage] != plan}
    # Nothing has chosen the new sampler, data set or network yet, but every metric is always measured.
    assert changed == {"evaluate_unet", "controls", "summary", "render_page"}  # which opens with the headlines
    assert clone.added.keys() - clone.before.keys() == {"average"}
    assert set(clone.added["evaluate_unet"]) - set(clone.before["evaluate_unet"]) == {
        "ddpm.evaluation.metrics.brightness"
    }


def test_new_data_set_is_used_throughout_pipeline(clone):
    from safetensors import safe_open

    with safe_open(clone.folder / "samples/unet.safetensors", framework="pt") as file:
        assert file.get_slice("samples").get_shape() == [258, 3, 32, 32]
    classes = (clone.folder / "reports/evaluate_unet/class_histogram.csv").read_text().splitlines()[1:]
    assert [row.partition(",")[0] for row in classes] == ["lying", "standing"]
    page = (clone.folder / "reports/index.html").read_text()
    assert "FashionMNIST" not in page
    assert "stripes" in page


def test_new_network_and_sampler_are_used(clone):
    assert "ddpm.networks.architectures.convnet" in clone.planned["train_unet"]
    assert "ddpm.networks.architectures.unet" not in clone.planned["train_unet"]
    assert {"ddpm.sampling.samplers.euler", "ddpm.networks.architectures.convnet"} <= clone.planned[
        "sample_unet"
    ].keys()
    rows = (clone.folder / "reports/study_samplers/sampler_error.csv").read_text()
    assert ",euler," in rows


def test_new_metric_is_scored_and_reported(clone):
    found = json.loads((clone.folder / "reports/evaluate_unet/scores.json").read_text())["metrics"]["brightness"]
    assert (found["better"], found["sees"]) == ("lower", "brightness only")
    assert found["samples"]["value"] >= 0
    assert "brightness" in (clone.folder / "reports/index.html").read_text()


def test_new_stage_is_declared_and_runs(clone):
    declared = load_yaml(clone.folder / "dvc.yaml")["stages"]["average"]
    assert declared["deps"] == ["plan/average.json", "samples/unet.safetensors"]
    assert (clone.folder / "reports/average/average.png").stat().st_size > 100
