"""Stages sample_tiny and sample_unet: the model, params and noise used, and the output."""

from pathlib import Path

import pytest
import torch
from workbench import declared, run

from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.images import denormalize_img, to_uint8
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.networks.checkpoint import load_model, save_model
from ddpm.run.files import load_tensors
from ddpm.run.seeding import derive_seed, generator, global_stream
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.samplers.ddim import DdimOptions
from ddpm.sampling.spacing import timesteps

PARAMS = {
    "n_samples": 5,
    "n_trajectories": 3,
    "batch_size": 2,
    "sampler": "ddim",
    "n_steps": 6,
    "spacing": "karras",
    "clip_sample": True,
    "guidance_scale": 1.0,
    "ddim": {"eta": 0.7},
}


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    """Two untrained networks that differ."""
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "unet"):
        with global_stream(0, name):
            model = TinyDiffuser(TinyDiffuserConfig((1, 4, 4), 8, 20))
        model.noise_schedule, model.prediction = NoiseSchedule(20, betas=cosine_schedule(20)), "x0"
        save_model(Path(f"models/{name}.safetensors"), model, {"step": 1, "seed": 0})


@pytest.mark.parametrize("name", ["tiny", "unet"])
def test_stages_sample_from_their_own_model_and_params(name):
    assert declared(f"sample_{name}")[0].key == f"sample.{name}"
    run(f"sample_{name}", PARAMS, root_seed=3)
    found, model = load_tensors(Path(f"samples/{name}.safetensors")), load_model(f"models/{name}.safetensors")
    assert found.keys() == {"samples", "steps", "estimates", "num_steps"}
    kept = timesteps(NoiseSchedule(20, betas=cosine_schedule(20)), 6, "karras")
    assert found["num_steps"].tolist() == kept.tolist()[::-1]
    assert (found["num_steps"][0], found["num_steps"][-1]) == (20, 0)
    for i in range(5):
        streams = [generator(derive_seed(3, f"sample_{name}"), "noise", i)]
        chain = list(sample_steps(model, streams, kept, "ddim", DdimOptions(eta=0.7), clip_sample=True))
        pixels = torch.cat([to_uint8(denormalize_img(x)) for x in chain])
        assert torch.equal(found["samples"][i], pixels[-1])
        if i < 3:
            assert torch.equal(found["steps"][:, i], pixels)
    assert found["steps"].shape == (7, 3, 1, 4, 4)
    assert [path.name for path in Path("samples").iterdir()] == [f"{name}.safetensors"]


def test_n_steps_null_takes_every_step():
    run("sample_tiny", PARAMS | {"n_steps": None})
    assert load_tensors(Path("samples/tiny.safetensors"))["num_steps"].tolist() == list(range(20, -1, -1))


def test_more_steps_than_trained_are_rejected():
    with pytest.raises(ValueError, match=r"n_steps is 21; it must be in 1\.\.20"):
        run("sample_tiny", PARAMS | {"n_steps": 21})
    assert not Path("samples").exists()
