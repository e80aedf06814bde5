"""Every key and section of params.yaml through what it should not be: refused in one clear line, or it runs a step."""

import copy
import os
import re
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_step import STEPS, set_up
from project import REPO
from ruamel.yaml import YAML

from ddpm.run.tracking import record as tracking
from ddpm.run.params import Params, load_params, validated
from ddpm.errors import UserError
from ddpm.run.stage import run_stage

CASES = 12  # for each key and section, of which there are some hundred
VALUES = YAML(typ="safe").load(REPO / "params.yaml")
WORDS = [
    "linear",
    "cosine",
    "linear_zero_snr",
    "eps",
    "v",
    "none",
    "auto",
    "cuda",
    "bf16",
    "ddim",
    "unipc",
    "held_out",
    "fixed_large",
    "learned",
    "mean",
    "bound",
    "min_snr",
    "x0",
    "classes",
    "clusters",
]
SURPRISES = [
    *(
        None,
        True,
        False,
        "",
        " ",
        "null",
        "1e-3",
        "nan",
        "0x10",
        "a\nb",
        "\0",
        "\ud800",
        "\u202e\u540d\u524d",
        "x" * 100_000,
    ),
    *(0, -1, 1, 2, 3, 5, 28, 10_000, 2**31, 2**63, -(2**63), 10**400, 16**5000),
    *(0.0, -0.0, -0.5, 0.5, 5e-324, 1e-300, 1.0, 1e308, float("nan"), float("inf"), float("-inf")),
    *([], [None], [[]], [1], [0, 0, 0], [3, 256, 256], [1] * 7, {}, {"a": {"b": [{}]}}, {1: 2}, {None: None}),
]
ONE_LINE = re.compile(r"params\.yaml: (\S+ is missing|.+ is not a parameter; check its spelling|.+ (is|has) .+; \S.+)")


def nodes(values, path=()):
    """The path of every section and of every key in it, whatever the file holds."""
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from nodes(value, (*path, key))


def replacements(old):
    """Values that could stand in the file instead of `old`: plausible ones, and surprises."""
    surprises = st.sampled_from(SURPRISES)
    if isinstance(old, dict):
        keys = st.sampled_from(list(old))
        without = keys.map(lambda gone: {key: value for key, value in old.items() if key != gone})
        return (
            surprises | without | st.tuples(keys | st.text(max_size=9), surprises).map(lambda pair: old | dict([pair]))
        )
    plausible = {
        bool: st.booleans(),
        int: st.integers(1, 64) | st.integers(1, 20_000) | st.integers(),
        float: st.floats(0, 1) | st.floats(),
        list: st.lists(st.integers(1, 300) | st.floats(0, 1) | st.sampled_from(WORDS), max_size=7),
    }
    return plausible.get(type(old), st.sampled_from(WORDS) | st.text(max_size=9)) | surprises


def changed(path, value):
    values = copy.deepcopy(VALUES)
    node = values
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return values


@pytest.mark.parametrize("path", list(nodes(VALUES)), ids=".".join)
@settings(max_examples=CASES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_value_is_refused_in_one_line_or_runs_one_step(path, data):
    old = VALUES
    for key in path:
        old = old[key]
    value = data.draw(replacements(old))
    if params := accepted(path, value):
        STEPS.get(path[0], set_up)(params)


@pytest.mark.parametrize("path", list(nodes(VALUES)), ids=".".join)
def test_every_surprise_is_accepted_or_refused_in_one_line(path):
    for value in SURPRISES:
        accepted(path, value)


@pytest.mark.parametrize("key", list(VALUES))
def test_a_section_that_is_missing_is_named(key):
    with pytest.raises(UserError) as refused:
        validated(Params, {other: value for other, value in VALUES.items() if other != key}, "params.yaml")
    assert str(refused.value) == f"params.yaml: {key} is missing"


def test_a_file_that_is_no_mapping_is_refused_in_one_line():
    for whole in (value for value in SURPRISES if not isinstance(value, dict)):
        with pytest.raises(UserError) as refused:
            validated(Params, whole, "params.yaml")
        assert re.fullmatch(r"params\.yaml.{1,400}", str(refused.value))


def accepted(path, value):
    """The params with `value` at `path`; None where they are refused, after a look at the message."""
    try:
        return validated(Params, changed(path, value), "params.yaml")
    except UserError as error:
        lines = str(error).splitlines()
        assert all(ONE_LINE.fullmatch(line) and len(line) < 400 for line in lines)
        assert any(part in line for line in lines for part in path)


@pytest.mark.parametrize(
    "text",
    [
        *("1" * 5000, "2026-13-45", "!!float x", "!!int x", "!!bool x", "!!timestamp x", "!!binary '?'", "[" * 500),
        *("{a: 1, a: 2}", "&a [*a]", "'", "*nowhere", "!!python/object/apply:os.system [true]", "\x07", "\t- 1"),
    ],
)
def test_yaml_that_stands_for_nothing_is_one_line(text, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((REPO / "params.yaml").read_text().replace("lr: 0.003", f"lr: {text}"))
    with pytest.raises(UserError) as caught:
        load_params(path)
    assert re.fullmatch(rf"{path}: (not valid YAML: .+|train_tiny\.lr is .+; .+)", str(caught.value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("sample", "unet", "n_samples"), 512, "evaluate_unet.n_samples is 1024; it cannot exceed sample.unet.n_sam"),
        (("evaluate_unet", "n_held_out"), 600, "evaluate_unet.n_samples is 1024; it cannot exceed evaluate_unet.n_h"),
        (
            ("evaluate_unet", "inception_weights"),
            "weights.pth",
            "evaluate_unet: n_samples is 1024; with inception_weights it must be at least 4098, since half of as many",
        ),
        (
            ("evaluate_unet",),
            {**VALUES["evaluate_unet"], "n_samples": 4098, "n_held_out": 4000, "inception_weights": "weights.pth"},
            "evaluate_unet: n_held_out is 4000; with inception_weights it must be at least 4098",
        ),
        (("evaluate_unet", "n_samples"), 257, "evaluate_unet.n_samples is 257; input should be greater than or equal"),
        (("sample", "tiny", "n_samples"), 41, "sample.tiny.n_samples is 41; times generate_gradients.img_shape's 3"),
        (("generate_gradients", "img_shape"), [3, 1, 1], "img_shape is [3, 1, 1]; a gradient needs at least 2 pixels"),
        (("generate_gradients", "n_train"), 10_000_000, "n_train x img_shape is 10000000 x 3 x 4 x 5; at most 2684354"),
        (("train_unet", "dim_mults"), [1, 64], "channels x dim_mults is 64 x 64; at most 2048 are allowed"),
        (
            ("train_unet", "max_attention_size"),
            29,
            "max_attention_size is 29; input should be less than or equal to 28",
        ),
        (
            ("train_tiny",),
            {**VALUES["train_tiny"], "schedule": "linear", "max_steps": 3501},
            "train_tiny: max_steps is 3501; schedule linear takes at most 3500",
        ),
        (
            ("train_unet",),
            {**VALUES["train_unet"], "schedule": "linear_zero_snr", "prediction": "eps"},
            "train_unet: prediction is eps; schedule linear_zero_snr leaves no image at max_steps, so it takes x0, v",
        ),
        (
            ("train_tiny",),
            {**VALUES["train_tiny"], "schedule": "linear_zero_snr", "weighting": "min_snr"},
            "train_tiny: weighting is min_snr; schedule linear_zero_snr has SNR 0 at max_steps, a step that min_snr",
        ),
        (
            ("train_tiny",),
            {**VALUES["train_tiny"], "max_steps": 1, "weighting": "bound"},
            "train_tiny: max_steps is 1; weighting bound needs at least 2",
        ),
        (
            ("train_unet",),
            {**VALUES["train_unet"], "max_steps": 1, "learn_variance": True},
            "train_unet: max_steps is 1; learn_variance needs at least 2",
        ),
        (
            ("sample", "tiny", "variance"),
            "learned",
            "sample.tiny.variance is learned; the tiny network learns none, so it takes fixed_large or fixed_small",
        ),
        (
            ("sample", "unet", "variance"),
            "learned",
            "sample.unet: variance is learned; only sampler ancestral draws noise of that variance, with dpmpp_2m take",
        ),
        (
            ("sample", "unet"),
            {**VALUES["sample"]["unet"], "sampler": "ancestral", "variance": "learned"},
            "sample.unet.variance is learned; train_unet.learn_variance must be true for that, or take",
        ),
        (
            ("paper", "variance"),
            "learned",
            "paper.variance is learned; train_unet.learn_variance must be true for that, or take",
        ),
        (
            ("paper", "coarse_depths"),
            [0.5, 1.5],
            "paper.coarse_depths.1 is 1.5; input should be less than or equal to 1",
        ),
        (("bound", "stride"), 201, "bound: n_images is 400; with stride 201 an interval needs at least 402"),
        (
            ("bound",),
            {**VALUES["bound"], "n_images": 402, "stride": 201},
            "bound.stride is 201; it cannot exceed train_unet.max_steps, 200",
        ),
        (("bound", "n_images"), 10_001, "bound.n_images is 10001; input should be less than or equal to 10000"),
        (
            ("train_unet",),
            {**VALUES["train_unet"], "n_train": 399, "n_clusters": 10},
            "bound.n_images is 400; it cannot exceed train_unet.n_train, 399",
        ),
        (("train_unet", "n_train"), 999, "train_unet: n_clusters is 1000; it cannot exceed n_train, 999"),
        (("train_unet", "n_clusters"), 0, "train_unet.n_clusters is 0; input should be greater than or equal to 1"),
        (("train_unet", "labels"), "none", "sample.unet.guidance_scale is 1.5; train_unet.labels is none and"),
        (
            ("train_unet", "label_dropout"),
            0.0,
            "and train_unet.label_dropout 0; with no labels, or no dropout, it must",
        ),
        (("sample", "unet", "guidance_scale"), 0.5, "sample.unet.guidance_scale is 0.5; input should be greater than"),
        (("sample", "tiny", "guidance_scale"), 2, "sample.tiny.guidance_scale is not a parameter"),
        (("bound", "variances"), ["fixed"], "bound.variances.0 is 'fixed'; input should be 'fixed_large'"),
        (("bound", "variances"), ["learned"], "bound.variances is learned; train_unet.learn_variance must be true"),
        (("bound", "variances"), [], "bound.variances is []; "),
        (("train_tiny", "max_steps"), 1, "train_tiny.max_steps is 1; the variational bound needs at least 2"),
        (("evaluate_tiny", "n_bound"), 1, "evaluate_tiny.n_bound is 1; input should be greater than or equal to 2"),
        (("paper", "n_steps"), 201, "paper.n_steps is 201; it cannot exceed train_unet.max_steps, 200"),
        (("paper", "n_samples"), 5001, "paper.n_samples is 5001; it cannot exceed evaluate_unet.n_held_out, 5000"),
        (("paper", "n_pairs"), 5001, "paper.n_pairs is 5001; input should be less than or equal to 32"),
        (("download_fashion_mnist", "folder"), "", "'' is no path; give printable characters, or null for none"),
    ],
)
def test_what_cannot_work_together_is_refused_before_any_work(path, value, message):
    with pytest.raises(UserError, match=re.escape(message)):
        validated(Params, changed(path, value), "params.yaml")


@pytest.mark.parametrize("stage", ["train_unet", "sample", "render_grids"])
def test_a_stage_stops_before_it_touches_anything(stage, tmp_path):
    with (tmp_path / "params.yaml").open("w") as file:
        YAML(typ="safe").dump(changed(("evaluate_unet", "n_samples"), 1025), file)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPO / "src"), "MLFLOW_TRACKING_URI": "sqlite:///x.db"}
    command = [sys.executable, REPO / "stages" / f"{stage}.py", *(["tiny"] if stage == "sample" else [])]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    name = "sample_tiny" if stage == "sample" else stage
    said = "params.yaml: evaluate_unet.n_samples is 1025; it cannot exceed sample.unet.n_samples, 1024"
    assert (ended.stdout, ended.stderr) == ("", f"{name}: {said}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize("ask", [lambda: torch.empty(2**60), lambda: bytearray(2**62)])
def test_what_memory_cannot_hold_is_one_line(ask, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "stage_run", lambda *_: nullcontext(tracking.Run()))
    (tmp_path / "params.yaml").write_text((REPO / "params.yaml").read_text())
    with pytest.raises(SystemExit) as caught:
        run_stage("train_tiny", lambda _: ask(), reads=("seed",))
    assert caught.value.code == 2
    assert "train_tiny: out of memory; lower the batch size" in capsys.readouterr().err
