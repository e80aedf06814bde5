"""Model files: saving and loading, and errors for invalid files."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ddpm.conditioning.guidance import given
from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.errors import UserError
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.networks.checkpoint import load_model, save_model
from ddpm.networks.network import NETWORKS
from ddpm.run.files import tensors_sha256

LABELS = {"conditioning": {"name": "labels", "dropout": 0.1}, "n_classes": 4}
FACTS = {"seed": 3, "step": 12, "schedule": "cosine", "weights": "raw"}


def tiny():
    model = TinyDiffuser(TinyDiffuserConfig((3, 4, 5), 16, 30))
    model.noise_schedule = NoiseSchedule(30, betas=cosine_schedule(30))
    return model


def unet():
    model = Unet(UnetConfig((1, 8, 8), channels=8, dim_mults=(1, 2), max_steps=30))
    model.noise_schedule = NoiseSchedule(30)
    return model


def conditional():
    model = Unet(UnetConfig((1, 8, 8), channels=8, dim_mults=(1, 2), max_steps=30, learn_variance=True, **LABELS))
    model.noise_schedule, model.prediction = NoiseSchedule(30), "mean"
    return model


@pytest.mark.parametrize("make", [tiny, unet, conditional])
def test_save_load_round_trip(make, tmp_path):
    model = make().eval()
    save_model(tmp_path / "m.safetensors", model, FACTS)
    loaded = load_model(tmp_path / "m.safetensors")
    x, t, labels = torch.randn(2, *model.img_shape), torch.tensor([1, 30]), torch.tensor([3, 0])
    with torch.no_grad():
        cond = None if model.conditioning is None else labels
        outputs = (given(network, cond).with_variance(x, t) for network in (loaded, model))
        for ours, theirs in zip(*outputs, strict=True):
            assert torch.equal(ours, theirs) if torch.is_tensor(theirs) else ours is None
    assert torch.equal(loaded.noise_schedule.alpha_bars, model.noise_schedule.alpha_bars)
    assert loaded.config == model.config
    assert loaded.prediction == model.prediction
    assert loaded.facts == FACTS
    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_file_contains_description_and_noise_schedule(tmp_path):
    save_model(tmp_path / "m.safetensors", tiny(), FACTS)
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["ddpm"])
        assert len(header.pop("digest")) == 64
        assert {f"noise_schedule.{name}" for name in ("betas", "alphas", "alpha_bars")} <= set(file.keys())
    assert header == {
        "network": "mlp",
        "config": {"img_shape": [3, 4, 5], "hidden_size": 16, "max_steps": 30},
        "prediction": "eps",
        **FACTS,
    }


def test_saved_bytes_are_identical_across_processes(tmp_path):
    program = (
        "import sys, torch\n"
        "from ddpm import TinyDiffuser, TinyDiffuserConfig, NoiseSchedule, save_model\n"
        "from pathlib import Path\n"
        "torch.manual_seed(0)\n"
        "model = TinyDiffuser(TinyDiffuserConfig((1, 2, 2), 4, 5))\n"
        "model.noise_schedule = NoiseSchedule(5)\n"
        "save_model(Path(sys.argv[1]), model, {'b': 1, 'a': 2, 'c': 3})\n"
    )
    for name in ("1", "2"):
        subprocess.run([sys.executable, "-c", program, str(tmp_path / name)], check=True)
    assert len({(tmp_path / name).read_bytes() for name in ("1", "2")}) == 1


def test_missing_file_error_suggests_dvc_repro(tmp_path):
    with pytest.raises(UserError, match=r"none\.safetensors: no such file; run `dvc repro`"):
        load_model(tmp_path / "none.safetensors")


def contents(path):
    """(header without its digest, tensors) of a model file."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["ddpm"])
        del header["digest"]
        return header, {key: file.get_tensor(key) for key in list(file.keys())}


def rewritten(path, header, tensors):
    """A model file with a valid digest for any content."""
    digest = tensors_sha256(json.dumps(header, sort_keys=True), tensors)
    save_file(tensors, path, metadata={"ddpm": json.dumps({**header, "digest": digest}, sort_keys=True)})


WEIGHT = "layers.0.weight"


@pytest.mark.parametrize(
    ("described", "changed", "reason"),
    [
        ({}, {}, None),
        ({"network": "gan"}, {}, "gan"),
        ({"config": {"img_shape": [3, 4, 5]}}, {}, "hidden_size"),
        ({"config": {"img_shape": [3, 4, 5], "hidden_size": 17, "max_steps": 30}}, {}, "size mismatch"),
        ({"config": {"img_shape": [3, 4, 5], "hidden_size": 16, "max_steps": 30, "gates": 2}}, {}, "gates"),
        ({"prediction": "score"}, {}, "prediction is 'score'"),
        ({}, {WEIGHT: None}, f"Missing key.*{WEIGHT}"),
        ({}, {"extra": torch.zeros(1)}, "Unexpected key.*extra"),
        ({}, {WEIGHT: torch.zeros(2, 2)}, f"size mismatch for {WEIGHT}"),
        ({}, {WEIGHT: torch.full((16, 60), torch.nan)}, f"{WEIGHT} is not finite"),
        ({}, {"noise_schedule.betas": None}, "betas"),
        ({}, {"noise_schedule.betas": torch.full((30,), torch.nan, dtype=torch.float64)}, "betas is not finite"),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value),
)
def test_load_rejects_invalid_models_with_the_reason(described, changed, reason, tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, tiny(), FACTS)
    header, tensors = contents(path)
    tensors = {key: value for key, value in (tensors | changed).items() if value is not None}
    rewritten(path, header | described, tensors)
    if reason is None:  # unchanged: rewriting a file does not make it invalid
        assert load_model(path)
        return
    with pytest.raises(UserError, match=rf"(?s)m\.safetensors: not a model file of this version, or damaged.*{reason}"):
        load_model(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: whole + b"1",
        lambda whole: whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:],
        lambda whole: whole.replace(b"cosine", b"linear"),
        lambda whole: whole.replace(b"digest", b"digits"),
        lambda whole: b"\xff" * 8 + whole[8:],
    ],
    ids=["empty", "half", "a byte short", "a byte long", "a bit flipped", "a fact changed", "no digest", "header size"],
)
def test_load_rejects_damaged_files(damage, tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, tiny(), FACTS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"m\.safetensors: not a model file of this version, or damaged"):
        load_model(path)


def test_load_rejects_files_without_description(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "m.safetensors")
    with pytest.raises(UserError, match=r"m\.safetensors: not a model file of this version, or damaged"):
        load_model(tmp_path / "m.safetensors")


def test_save_rejects_models_without_noise_schedule(tmp_path):
    model = tiny()
    model.noise_schedule = None
    with pytest.raises(ValueError, match="noise_schedule"):
        save_model(tmp_path / "m.safetensors", model, FACTS)
    assert not list(tmp_path.iterdir())


def test_save_rejects_unregistered_networks(tmp_path):
    class Homemade(TinyDiffuser):
        """Not in `architectures/`."""

    model = Homemade(TinyDiffuserConfig((3, 4, 5), 16, 30))
    model.noise_schedule = NoiseSchedule(30)
    with pytest.raises(ValueError, match=f"cannot save Homemade: need one of {', '.join(NETWORKS)} with"):
        save_model(tmp_path / "m.safetensors", model, FACTS)
    assert not list(tmp_path.iterdir())
