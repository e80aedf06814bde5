"""Invalid values and combinations in params.yaml: each is rejected in one line that says why."""

import copy
import functools
import os
import subprocess
import sys

import pytest
import torch
from project import REPO, write_params
from whole import VALUES, check

from ddpm.errors import UserError
from ddpm.run.stage import Stage, mistakes_in_one_line, run_stage

GUIDED = {"sample__unet__guidance_scale": 1.5}


def with_values(**changes):
    """All values with some changed. In keys, __ stands for a dot."""
    values = copy.deepcopy(VALUES)
    for key, value in changes.items():
        *head, last = key.split("__")
        functools.reduce(lambda node, part: node.setdefault(part, {}), head, values)[last] = value
    return values


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed is -1; input should be greater than or equal to 0"),
        ({"device": "tpu"}, "device is 'tpu'; input should be 'auto', 'cpu' or 'cuda'"),
        ({"train_unet__learning_rate": 1}, "train_unet.learning_rate is not a parameter; check its spelling"),
        ({"train_unett__lr": 1}, "train_unett is not a parameter; check its spelling"),
        ({"train_unet__unet__chanels": 1}, "train_unet.unet.chanels is not a parameter; check its spelling"),
        ({"train_unet__network": "vit"}, "train_unet.network: 'vit' is not a network; allowed: mlp, prior, unet"),
        ({"train_unet__schedule": "sine"}, "train_unet.schedule: 'sine' is not a noise schedule; allowed: linear, "),
        ({"train_unet__unet__groups": 7}, "train_unet: channels is 64; it must be a multiple of groups, 7"),
        (
            {"train_unet__unet__dim_mults": [1, 1, 1, 1, 1, 1]},
            "train_unet: image size is 28x28; patch_size 2 and 6 dim_mults need heights and widths of at least 32",
        ),
        (
            {"train_unet__unet__dim_mults": [1, 64]},
            "train_unet: channels x dim_mults is 64 x 64; at most 2048 are allowed",
        ),
        (
            {"train_tiny__conditioning": "labels"},
            "train_tiny: conditioning is labels; network mlp is unconditional, so it must be null",
        ),
        (
            {"train_tiny__schedule": "rescaled_linear", "train_tiny__max_steps": 20},
            "train_tiny: max_steps is 20; the rescaled linear schedule needs at least 21",
        ),
        (
            {"train_tiny__schedule": "linear", "train_tiny__max_steps": 3600},
            "train_tiny: max_steps is 3600; schedule linear leaves alpha_bar_T = 2e-16, which float64 cannot",
        ),
        (
            {"train_unet__schedule": "linear_zero_snr", "train_unet__prediction": "eps"},
            "train_unet: prediction is eps; schedule linear_zero_snr has zero SNR at max_steps, where the",
        ),
        (
            {"train_tiny__schedule": "linear_zero_snr", "train_tiny__weighting": "min_snr"},
            "train_tiny: weighting is min_snr; schedule linear_zero_snr has zero SNR at max_steps, a timestep",
        ),
        (
            {"train_tiny__prediction": "eps", "train_tiny__weighting": "consistency"},
            "train_tiny: prediction is eps; weighting consistency needs x0 or v",
        ),
        (
            {"train_tiny__max_steps": 1, "train_tiny__weighting": "bound"},
            "train_tiny: max_steps is 1; weighting bound needs at least 2",
        ),
        ({"train_tiny__max_steps": 1}, "train_tiny.max_steps is 1; the variational bound needs at least 2"),
        (
            {"train_unet__max_steps": 1, "sample__unet__sampler": "dpmpp_2m"},
            "sample.unet.n_steps is 100; train_unet.max_steps is 1, so sampler dpmpp_2m takes 2 to 1",
        ),
        (
            {"data__n_train": 999, "train_unet__conditioning": "clusters", "controls__n_images": 300},
            "train_unet.clusters.n_clusters is 1000; it cannot exceed the training images (data.n_train), 9",
        ),
        (
            {"train_unet__clusters__n_clusters": 0},
            "train_unet.clusters.n_clusters is 0; input should be greater than or equal to 1",
        ),
        (
            {"data__n_train": 55_001},
            "data: n_train is 55001 and n_held_out 5000; fashion_mnist has 60000 images in its training split, and",
        ),
        (
            {"data__n_held_out": 60_000},
            "data: n_train is None and n_held_out 60000; fashion_mnist has 60000 images in its training split, and",
        ),
        ({"data__name": "cifar"}, "data.name: 'cifar' is not a data set; allowed: cifar10, cifar100, "),
        ({"data__path": ""}, "data.path: '' is not a path; use printable characters, or null for none"),
        (
            {"generate_gradients__img_shape": [2, 4, 5]},
            "generate_gradients.img_shape: [2, 4, 5] has 2 channels; a picture has 1 (grey) or 3 (colour)",
        ),
        (
            {"generate_gradients__img_shape": [3, 1, 1]},
            "generate_gradients: img_shape is [3, 1, 1]; a gradient needs at least 2 pixels",
        ),
        (
            {"generate_gradients__n_train": 10_000_000},
            "generate_gradients: n_train x img_shape is 10000000 x 3 x 4 x 5; at most 268435456 numbers are",
        ),
        (
            {"sample__unet__n_samples": 20, "sample__unet__n_trajectories": 2},
            "sample.unet.n_samples is 20; as many samples are evaluated, so it must be at least 24",
        ),
        (
            {"sample__tiny__n_samples": 41},
            "sample.tiny.n_samples is 41; times the 3 channels of generate_gradients.img_shape it must be at",
        ),
        (
            {"sample__unet__n_trajectories": 64, "sample__unet__n_samples": 32},
            "sample.unet: n_trajectories is 64; it cannot exceed n_samples, 32",
        ),
        (
            {"sample__tiny__n_steps": 101},
            "sample.tiny.n_steps is 101; train_tiny.max_steps is 100, so sampler ancestral takes 1 to 100",
        ),
        (
            {"sample__tiny__sampler": "unipc", "sample__tiny__n_steps": 2},
            "sample.tiny: n_steps is 2; sampler unipc needs at least 3",
        ),
        (
            {"sample__unet__sampler": "euler"},
            "sample.unet.sampler: 'euler' is not a sampler; allowed: ancestral, ddim, dpmpp_2m, dpmpp_3m, heun, unipc",
        ),
        ({"sample__unet__ddim__eta": 1.5}, "sample.unet.ddim.eta is 1.5; input should be less than or equal to 1"),
        (
            {"sample__unet__sampler": "ancestral", "sample__unet__ancestral__variance": "learned"},
            "sample.unet.ancestral.variance is learned; train_unet's network does not predict it, so it must be",
        ),
        (
            {"sample__tiny__ancestral__variance": "learned"},
            "sample.tiny.ancestral.variance is learned; train_tiny's network does not predict it, so it must be",
        ),
        (
            {"sample__unet__guidance_scale": 0.5},
            "sample.unet.guidance_scale is 0.5; input should be greater than or equal to 1",
        ),
        (
            {"sample__tiny__guidance_scale": 2},
            "sample.tiny.guidance_scale is 2; train_tiny.conditioning is null, so it must be 1",
        ),
        (
            GUIDED | {"train_unet__conditioning": "clusters", "train_unet__clusters__dropout": 0.0},
            "sample.unet.guidance_scale is 1.5; train_unet.clusters.dropout is 0, so it must be 1",
        ),
        (
            GUIDED,
            "sample.unet.guidance_scale is 1.5; train_unet.conditioning is null, so it must be 1",
        ),
        (
            {"study_samplers__max_steps": [100, 20]},
            "study_samplers: max_steps is 20; the rescaled linear schedule needs at least 21",
        ),
        (
            {"study_samplers__ancestral__variance": "learned"},
            "study_samplers: ancestral.variance is learned; an exact denoiser does not predict it; use",
        ),
        ({"evaluate_tiny__n_bound": 1}, "evaluate_tiny.n_bound is 1; input should be greater than or equal to 2"),
        (
            {"evaluate_tiny__n_bound": 1001},
            "evaluate_tiny.n_bound is 1001; it cannot exceed generate_gradients.n_held_out, 1000",
        ),
        (
            {"evaluate_unet__n_samples": 23},
            "evaluate_unet.n_samples is 23; input should be greater than or equal to 24",
        ),
        (
            {"evaluate_unet__n_samples": 1025},
            "evaluate_unet.n_samples is 1025; it cannot exceed sample.unet.n_samples, 1024",
        ),
        ({"data__n_held_out": 9}, "data.n_held_out is 9; as many samples are evaluated, so it must be at least 24"),
        ({"evaluate_unet__inception_weights": "w.pth"}, "sample.unet.n_samples is 1024; as many samples are evaluated"),
        (
            {"evaluate_unet__reference": "train"},
            "evaluate_unet.reference is 'train'; input should be 'test' or 'held_out'",
        ),
        ({"bound__stride": 201}, "bound: n_images is 400; with stride 201 an interval needs at least 402"),
        (
            {"bound__stride": 201, "bound__n_images": 402},
            "bound.stride is 201; it cannot exceed train_unet.max_steps, 200",
        ),
        ({"bound__n_images": 10_001}, "bound.n_images is 10001; input should be less than or equal to 10000"),
        ({"data__name": "folder"}, "data.path is null; data set folder needs a path: -S data.path=..."),
        ({"data__name": "npz", "data__path": "/nowhere"}, "data.path is /nowhere; there is no such file"),
        ({"data__folder__size": 3}, "data.folder.size.constrained-int is 3; input should be greater than or equal"),
        ({"bound__variances": []}, "bound.variances is []; list should have at least 1 item after validation, not 0"),
        (
            {"bound__variances": ["fixed"]},
            "bound.variances.0 is 'fixed'; input should be 'fixed_large', 'fixed_small' or 'learned'",
        ),
        (
            {"bound__variances": ["learned"]},
            "bound.variances.0 is learned; train_unet's network does not predict it, so it must be fixed_large or",
        ),
        (
            {"paper__variance": "learned"},
            "paper.variance is learned; train_unet's network does not predict it, so it must be fixed_large or",
        ),
        ({"paper__coarse_depths": [0.5, 1.5]}, "paper.coarse_depths.1 is 1.5; input should be less than or equal to 1"),
        ({"paper__n_steps": 201}, "paper.n_steps is 201; it cannot exceed train_unet.max_steps, 200"),
        ({"paper__n_pairs": 33}, "paper.n_pairs is 33; input should be less than or equal to 32"),
    ],
)
def test_invalid_params_are_rejected_with_reason(changes, message):
    with pytest.raises(UserError) as refused:
        check(with_values(**changes))
    assert f"params.yaml: {message}" in str(refused.value)


def test_each_invalid_param_is_reported_on_its_own_line():
    with pytest.raises(UserError) as refused:
        check(with_values(train_unet__lr=-1, seed="zero", sample__unet__ddim__eta=2))
    assert [line.split()[1] for line in str(refused.value).splitlines()] == [
        "seed",
        "train_unet.lr",
        "sample.unet.ddim.eta",
    ]


def test_check_stage_rejects_invalid_params_without_writing(tmp_path):
    (tmp_path / "params.yaml").write_text((REPO / "params.yaml").read_text())
    write_params(tmp_path, {"evaluate_unet": {"n_samples": 1025}})
    for name in ("src", "stages"):
        (tmp_path / name).symlink_to(REPO / name)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPO / "src")}
    command = [sys.executable, "stages/check.py"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    said = "check: params.yaml: evaluate_unet.n_samples is 1025; it cannot exceed sample.unet.n_samples, 1024\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", said)
    assert {path.name for path in tmp_path.iterdir()} == {"params.yaml", "src", "stages"}


@pytest.mark.parametrize("ask", [lambda: torch.empty(2**60), lambda: bytearray(2**62)])
def test_out_of_memory_is_reported_in_one_line(ask, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((REPO / "params.yaml").read_text())
    with pytest.raises(SystemExit) as caught, mistakes_in_one_line("train_tiny"):
        run_stage("train_tiny", Stage(lambda _: ask(), general=("seed",), tracked=False))
    assert caught.value.code == 2
    assert "train_tiny: out of memory; lower the batch size" in capsys.readouterr().err
