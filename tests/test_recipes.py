"""Recipes: each sets known parameters to valid values, and its arguments survive DVC's override parser."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dvc.utils.hydra import apply_overrides
from project import REPO
from ruamel.yaml import YAML
from whole import check, save_start

from ddpm.networks.network import NETWORKS
from ddpm.recipes import main
from ddpm.run.yaml import load_yaml

NAMES = [path.stem for path in (REPO / "recipes").glob("*.yaml")]


def words(name, **options):
    return subprocess.run(
        [sys.executable, "-m", "ddpm.recipes", name], cwd=REPO, capture_output=True, text=True, **options
    )


@pytest.mark.parametrize("name", NAMES)
def test_dvc_overrides_reproduce_the_recipe(name, tmp_path, monkeypatch):
    yaml = YAML(typ="safe")
    default = yaml.load(REPO / "params.yaml")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    save_start(tmp_path, default)
    yaml.dump(default, tmp_path / "params.yaml")
    said = words(name, check=True).stdout.split()
    assert said[::2] == ["-S"] * (len(said) // 2)
    apply_overrides(str(tmp_path / "params.yaml"), said[1::2])
    # Every key is known, and every value allowed.
    params = check(load_yaml(tmp_path / "params.yaml"))
    training, shape = params.train_unet, params.data.source.img_shape
    with torch.device("meta"):  # shapes without the arithmetic
        model = NETWORKS[training.network](training.config(shape, len(params.data.source.class_names)))
        cond = () if model.conditioning is None else (torch.zeros(2, dtype=torch.long),)
        assert model(torch.zeros(2, *shape), torch.ones(2), *cond).shape == (2, *shape)
    result = yaml.load(tmp_path / "params.yaml")
    recipe = yaml.load(REPO / "recipes" / f"{name}.yaml")

    def merged(base, changes):
        return {**base, **{k: merged(base[k], v) if isinstance(v, dict) else v for k, v in changes.items()}}

    assert result == merged(default, recipe)


def test_unknown_recipe_error_lists_the_recipes():
    done = words("curse")
    assert done.returncode == 1
    assert done.stderr == f"recipes: 'curse' is not a recipe; available: {', '.join(sorted(NAMES))}\n"


@pytest.mark.parametrize("names", [[], ["fast", "few"]])
def test_cli_requires_exactly_one_name(names):
    done = subprocess.run(
        [sys.executable, "-m", "ddpm.recipes", *names], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "--no-such-recipe\n")
    assert done.stderr.startswith(f"recipes: '{' '.join(names)}' is not a recipe; available: ablation, ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "recipes/own.yaml: a recipe is sections of keys and values"),
        (b"- lr", "recipes/own.yaml: a recipe is sections of keys and values"),
        (b"data: {1: 2}", "recipes/own.yaml: a recipe is sections of keys and values"),
        (b"\xff", "recipes/own.yaml: not valid YAML"),
        (None, "there is no recipes/*.yaml here; run it at the top of the repository"),
    ],
)
def test_malformed_or_missing_recipe_is_rejected(text, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "recipes").mkdir()
        (tmp_path / "recipes/own.yaml").write_bytes(text)
    with pytest.raises(SystemExit, match=rf"^recipes: {re.escape(said)}[^\n]*$"):
        main(["own"])
    assert capsys.readouterr().out == "--no-such-recipe\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="of Linux")
def test_failed_write_to_stdout_is_one_line():
    command = [sys.executable, "-m", "ddpm.recipes", "fast"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=REPO, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "recipes: stdout: No space left on device\n")


def test_course_recipe_sets_the_course_values():
    said = words("course").stdout.split()
    for value in ("unet.channels=28", "unet.dim_mults=[1,2,4]", "max_steps=200", "batch_size=128", "lr=0.001"):
        assert f"train_unet.{value}" in said


def test_default_params_pass_every_rule():
    check(load_yaml(REPO / "params.yaml"))
