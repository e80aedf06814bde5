"""`python -m ddpm.export`: other programs compute the same outputs."""

import hashlib
import json
import re
import subprocess
import sys
from contextlib import chdir
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from ddpm import NoiseSchedule, TinyDiffuser, TinyDiffuserConfig, Unet, UnetConfig, load_model, sample, save_model
from ddpm.diffusion.schedule import SCHEDULES
from ddpm.errors import UserError
from ddpm.export import export
from ddpm.run.files import write_json

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # of torch's exporter
]
T = 12
UNET = {"img_shape": (2, 8, 12), "max_steps": T, "channels": 8, "dim_mults": (1, 2), "groups": 2, "heads": 1}
LABELS = {"conditioning": {"name": "labels", "dropout": 0.0}, "n_classes": 3}
MEANS = {"conditioning": {"name": "clusters", "n_clusters": 3, "dropout": 0.1}}
NETWORKS = {
    "unet": lambda: Unet(UnetConfig(**UNET, head_channels=4, patch_size=2)),
    "labels": lambda: Unet(UnetConfig(**UNET | {"dim_mults": (1,)} | LABELS)),
    "clusters": lambda: Unet(UnetConfig(**UNET | {"dim_mults": (1,)} | MEANS)),
    "mlp": lambda: TinyDiffuser(TinyDiffuserConfig((2, 8, 12), 16, T)),
}


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """A network by name, and the folder of its graph. Each is exported once, as this takes seconds."""

    @cache
    def exported(name):
        folder = tmp_path_factory.mktemp(name)
        with chdir(folder):
            model = saved(name)
            export(Path("models/unet.safetensors"), Path("out"), "onnx")
        return model, folder / "out"

    return exported


def saved(name, prediction="v", path="models/unet.safetensors"):
    torch.manual_seed(0)
    model = NETWORKS[name]()
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)  # no layer is zero
    if name == "clusters":
        model.conditioning.means.uniform_(-1, 1)
        model.conditioning.frequencies.fill_(1 / 3)
    model.noise_schedule, model.prediction = NoiseSchedule(T, betas=SCHEDULES["cosine"](T)), prediction
    save_model(Path(path), model, {"step": 7, "seed": 3})
    return load_model(path)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_output_matches_the_network(name, graph):
    model, folder = graph(name)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    n = 5
    x, t = torch.randn(n, 2, 8, 12), torch.tensor([1, T, 3, 4, 9])
    cond = [torch.tensor([0, 1, 2, 2, 1])] if model.conditioning else []
    names = ("sample", "timestep", "cond")
    inputs = dict(zip(names, (x.numpy(), (t - 1).numpy(), *(c.numpy() for c in cond)), strict=False))
    (found,) = session.run(None, inputs)
    assert np.abs(found - model(x, t, *cond).numpy()).max() < 1e-5
    assert {node.name for node in session.get_inputs()} == set(inputs)


def test_diffusers_ddim_with_onnx_graph_matches_library(graph):
    """Deterministic sampler, same noise. x_0 is not clipped, since clipping makes every chain end alike."""
    _, folder = graph("mlp")
    session = onnxruntime.InferenceSession(folder / "model.onnx")  # only the schedule says what it predicts
    start = torch.randn(3, 2, 8, 12, generator=torch.Generator().manual_seed(1))
    for prediction in ("eps", "x0", "v"):
        model, x = saved("mlp", prediction), start
        export(Path("models/unet.safetensors"), Path(prediction), "hub")
        scheduler = DDIMScheduler.from_pretrained(prediction, clip_sample=False, set_alpha_to_one=True)
        scheduler.set_timesteps(T)
        for t in scheduler.timesteps:
            (predicted,) = session.run(None, {"sample": x.numpy(), "timestep": t.expand(3).numpy()})
            x = scheduler.step(torch.from_numpy(predicted), t, x).prev_sample
        expected = sample(model, 3, start=start, sampler="ddim")
        assert (x - expected).abs().max() < 1e-4 * expected.abs().max()
    config = Path("v/scheduler_config.json").read_text()
    assert (folder / "scheduler_config.json").read_text() == config


def test_diffusers_loads_the_schedule():
    model = saved("unet")
    export(Path("models/unet.safetensors"), Path("out"), "hub")
    scheduler = DDPMScheduler.from_pretrained("out")
    assert len(scheduler) == T
    assert (scheduler.alphas_cumprod - model.noise_schedule.alpha_bars).abs().max() < 1e-6
    assert scheduler.config.prediction_type == "v_prediction"


def test_diffusers_sampler_clips_x0_and_adds_posterior_variance():
    """x_{t-1} by equations 6 and 7, with fewer steps from T on: from timestep 7 to 3, as diffusers counts them."""
    saved("mlp", "x0")
    export(Path("models/unet.safetensors"), Path("out"), "hub")
    scheduler = DDPMScheduler.from_pretrained("out")
    scheduler.set_timesteps(3)
    assert scheduler.timesteps.tolist() == [11, 7, 3]
    kept, before = NoiseSchedule(T, betas=SCHEDULES["cosine"](T)).alpha_bars[[7, 3]].double()
    alpha, x = kept / before, torch.randn(1, 1, 200, 250)
    x0 = torch.full_like(x, 3.0)  # clipped to 1
    found = scheduler.step(x0, 7, x, generator=torch.Generator().manual_seed(0)).prev_sample
    mean = before.sqrt() * (1 - alpha) / (1 - kept) + alpha.sqrt() * (1 - before) / (1 - kept) * x
    noise, variance = (found - mean).double(), (1 - before) / (1 - kept) * (1 - alpha)
    assert abs(noise.mean()) < 5 * (variance / x.numel()) ** 0.5
    assert abs(noise.var() / variance - 1) < 5 * (2 / x.numel()) ** 0.5


def test_hub_export_round_trips_weights_and_writes_card():
    model = saved("unet")
    score = {"samples": {"value": 0.671}, "floor": {"value": 0.478}, "better": "lower", "sees": "whatever differs"}
    write_json(
        Path("reports/evaluate_unet/scores.json"), {"n_samples": 9, "reference": "test", "metrics": {"auc": score}}
    )
    write_json(Path("plan/params.json"), {"seed": 42, "train_unet": {"lr": 0.125}})
    export(Path("models/unet.safetensors"), Path("out"), "hub")
    found = load_model("out/model.safetensors")
    assert all(torch.equal(value, found.state_dict()[key]) for key, value in model.state_dict().items())
    card = Path("out/README.md").read_text()
    for words in ("| auc | 0.671 | 0.478 | lower | whatever differs |", "9 samples against the test split", "0.125"):
        assert words in card
    digest = hashlib.sha256(Path("models/unet.safetensors").read_bytes()).hexdigest()
    for key, value in {"SHA-256": digest, "network": "Unet", "predicts": "v", "step": 7, "seed": 3}.items():
        assert f"| {key} | `{value}` |" in card


def test_card_omits_scores_and_params_of_another_network():
    saved("unet", path="other.safetensors")
    write_json(Path("reports/evaluate_unet/scores.json"), {"n_samples": 9, "reference": "test", "metrics": {}})
    write_json(Path("plan/params.json"), {"seed": 42})
    export(Path("other.safetensors"), Path("out"), "hub")
    card = Path("out/README.md").read_text()
    assert "## Scores" not in card
    assert "## Parameters" not in card


@pytest.mark.parametrize(("to", "name"), [("hub", "unet"), *(("onnx", name) for name in NETWORKS)])
def test_card_example_runs(to, name, graph, monkeypatch):
    if to == "hub":
        saved("unet")
        export(Path("models/unet.safetensors"), Path("out"), to)
    monkeypatch.chdir("out" if to == "hub" else graph(name)[1])
    (code,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    exec(compile(code, "<card>", "exec"), {"__name__": "card"})


def test_invalid_exports_are_rejected(monkeypatch):
    saved("mlp", "mean")
    with pytest.raises(UserError, match="the network predicts mean; only eps, x0, v can be exported"):
        export(Path("models/unet.safetensors"), Path("out"), "hub")
    saved("mlp")
    monkeypatch.setattr("ddpm.export.find_spec", lambda _: None)
    with pytest.raises(UserError, match="--to onnx needs the packages onnx and onnxscript"):
        export(Path("models/unet.safetensors"), Path("out"), "onnx")
    assert not Path("out").exists()
    with pytest.raises(UserError, match=r"unet\.safetensors is not a folder; name a folder"):
        export(Path("models/unet.safetensors"), Path("models/unet.safetensors/out"), "hub")
    with pytest.raises(UserError, match="models exists and is not empty; name a new folder"):
        export(Path("models/unet.safetensors"), Path("models"), "hub")


def test_failed_export_leaves_no_files(monkeypatch):
    saved("mlp")
    before = sorted(Path().rglob("*"))

    def fail(*_, **__):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(RuntimeError, match="no such operator"):
        export(Path("models/unet.safetensors"), Path("out"), "onnx")
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("name", ["a/new/one", "empty", "link"])
def test_output_folder_may_be_new_or_empty_with_default_mode(name):
    saved("mlp")
    Path("empty").mkdir()
    Path("link").symlink_to("empty")
    export(Path("models/unet.safetensors"), Path(name), "hub")
    assert {path.name for path in Path(name).iterdir()} == {"model.safetensors", "scheduler_config.json", "README.md"}
    assert Path(name).stat().st_mode == Path("models").stat().st_mode


def test_cli_exports_and_rejects_nonempty_folder():
    saved("mlp")
    words = [sys.executable, "-m", "ddpm.export", "models/unet.safetensors", "out", "--to", "hub"]
    assert subprocess.run(words, capture_output=True, check=True).stderr == b""
    assert json.loads(Path("out/scheduler_config.json").read_text())["num_train_timesteps"] == T
    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (2, "export: out exists and is not empty; name a new folder\n")
