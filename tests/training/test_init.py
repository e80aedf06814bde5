"""Training from given weights: it starts there, they must fit, and the result depends on them."""

import json
import logging
import runpy
import shutil
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from hashlib import md5
from pathlib import Path

import pytest
import torch
from project import REPO
from torch.utils.data import TensorDataset
from training.small import images, params, tiny, weights
from workbench import greys, run, save_split

from ddpm.conditioning.kinds.clusters import Clusters
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.errors import UserError
from ddpm.figures.names import label_of
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.networks.checkpoint import load_model, save_model
from ddpm.run.compute import Compute
from ddpm.run.resume.context import Resume
from ddpm.run.stage import StageRun
from ddpm.run.tracking.record import Run
from ddpm.run.yaml import dump_yaml, load_yaml
from ddpm.training.course import train
from ddpm.training.fit import fit
from ddpm.training.init import load_init

START = Path("init/start.safetensors")
SMALL = {"max_steps": 20, "epochs": 1, "n_eval_per_step": 2, "n_eval": 5, "batch_size": 16, "mlp": {"hidden_size": 8}}
CONFIG = {"max_steps": 50, "lr": 0.01, "batch_size": 8, "epochs": 1}


def saved(model, path=START, schedule="linear", prediction="eps"):
    model.noise_schedule = NoiseSchedule(50, betas=SCHEDULES[schedule](50))
    model.prediction = prediction
    save_model(path, model, {"step": 1, "seed": 0, "schedule": schedule})
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Images to train on, in a project of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    save_split("train", greys(0, 40, (1, 8, 8)), folder="gradients")
    save_split("held_out", greys(60, 20, (1, 8, 8)), folder="gradients")
    return tmp_path


def first_stage():
    """The weights of a trained tiny model, saved as initial weights."""
    run("train_tiny", SMALL)
    START.parent.mkdir()
    shutil.copy("models/tiny.safetensors", START)
    return load_model(START)


def test_stage_starts_from_init_weights_and_records_their_hash():
    start, met = first_stage(), []

    def watched(model, *rest):
        met.append((weights(model), all(p.requires_grad for p in model.parameters())))
        return fit(model, *rest)

    run("train_tiny", SMALL | {"init": START.name}, fit=watched)
    [(initial, trainable)] = met
    assert torch.equal(initial, weights(start))
    assert trainable
    trained = load_model("models/tiny.safetensors")
    assert not torch.equal(weights(trained), weights(start))
    assert trained.facts["init"] == md5(START.read_bytes()).hexdigest()
    assert label_of(trained) == f"{label_of(start)}, from given weights"


def test_killed_stage_with_init_resumes_with_the_same_bits(tmp_path, caplog):
    class Kill(BaseException):
        pass

    class Killer(Run):
        def log_metrics(self, _, step):
            if step == 2:
                raise Kill

    first_stage()
    changes = SMALL | {"init": START.name, "log_interval": 1}
    run("train_tiny", changes)
    expected = Path("models/tiny.safetensors").read_bytes()
    Path("models/tiny.safetensors").unlink()
    caplog.set_level(logging.INFO)
    for log, end in ((Killer(), pytest.raises(Kill)), (None, nullcontext())):
        with end, Resume("train_tiny", {}, 0.0, tmp_path / "states") as resume:
            run("train_tiny", changes, resume=resume, fit=lambda *args, log=log: fit(*args[:6], log, args[7]))
    assert "train_tiny: resumes after step 1" in caplog.text
    assert Path("models/tiny.safetensors").read_bytes() == expected


def test_init_file_changes_only_the_plan_of_its_stage():
    """DVC then runs it again (tests/run/test_stage.py: no stage resumes with other weights)."""
    START.parent.mkdir()
    for name in ("src", "stages"):
        Path(name).symlink_to(REPO / name)
    values = load_yaml(REPO / "params.yaml")
    values["train_tiny"] |= {"init": START.name, "schedule": "linear", "prediction": "eps", "max_steps": 50}
    Path("params.yaml").write_text(dump_yaml(values))
    check, plans = runpy.run_path("stages/check.py")["STAGES"]["check"].main, []
    for seed in (0, 1):
        saved(tiny(seed))
        check(StageRun("check", None, 0, Compute(), Run()))
        plans.append([json.loads(Path(f"plan/train_{name}.json").read_text()) for name in ("tiny", "unet")])
        assert plans[-1][0].pop(START.as_posix()) == md5(START.read_bytes()).hexdigest()
    assert plans[0] == plans[1]
    [check_stage] = load_yaml(REPO / "dvc.yaml")["stages"]["check"]["deps"][-1:]
    assert check_stage == START.parent.as_posix()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": 64}, "its hidden_size is 128, and this training's is 64; they must be equal"),
        ({"max_steps": 40}, "its max_steps is 50, and this training's is 40; they must be equal"),
        ({"img_shape": (3, 5, 4)}, r"its img_shape is \[3, 4, 5\], and this training's is \[3, 5, 4\]; they"),
        ({"schedule": "cosine"}, "its schedule is linear, and this training's is cosine; they must be equal"),
        ({"prediction": "v"}, "its prediction is eps, and this training's is v; they must be equal"),
    ],
)
def test_load_init_rejects_weights_that_do_not_match(changes, said):
    model, path = tiny(), saved(tiny())
    config = replace(model.config, **{key: value for key, value in changes.items() if hasattr(model.config, key)})
    own = params(**{key: value for key, value in changes.items() if key in ("schedule", "prediction", "max_steps")})
    with pytest.raises(UserError, match=f"init/start.safetensors: {said}"):
        load_init(path, type(model), config, own)


def test_load_init_rejects_other_networks_and_unreadable_files():
    other = type("Other", (type(tiny()),), {})
    with pytest.raises(UserError, match="its network is TinyDiffuser, and this training's is Other"):
        load_init(saved(tiny()), other, tiny().config, params())
    START.write_bytes(b"no model")
    with pytest.raises(UserError, match=r"start\.safetensors: not a model file"):
        load_init(START, type(tiny()), tiny().config, params())
    with pytest.raises(UserError, match=r"gone\.safetensors: no such file"):
        load_init(Path("init/gone.safetensors"), type(tiny()), tiny().config, params())


def test_train_from_init_file_matches_train_from_model():
    given = TensorDataset(images(20))
    once = train(tiny(), CONFIG, given, track=False)
    path = saved(once)
    twice = train(once, CONFIG, given, track=False)
    from_file = train(tiny(seed=5), CONFIG, given, track=False, init=path)
    assert torch.equal(weights(twice), weights(from_file))
    with pytest.raises(UserError, match=r"frozen, as `load_model` returns them: call model.requires_grad_\(\)"):
        train(load_model(path), CONFIG, given, track=False)
    unfrozen = load_model(path).requires_grad_()
    assert torch.equal(weights(train(unfrozen, CONFIG, given, track=False)), weights(from_file))


def test_train_fits_a_conditioning_unless_it_comes_with_init_weights(monkeypatch):
    class Log(Run):
        def log_input(self, path):
            logged.append(path)

    @contextmanager
    def stage_run(*_):
        yield Log()

    def network():
        conditioning = {"name": "clusters", "n_clusters": 3, "dropout": 0.0}
        return Unet(UnetConfig((1, 4, 4), 8, (1, 2), groups=2, heads=2, max_steps=50, conditioning=conditioning))

    logged = []
    monkeypatch.setattr("ddpm.training.course.stage_run", stage_run)
    first, second = (images(20, name, (1, 4, 4)) for name in ("first", "second"))
    expected = Clusters((1, 4, 4), 0, 0, 3, 0.0)
    expected.fit(first, 7)
    fitted = train(network(), CONFIG | {"seed": 7}, TensorDataset(first)).conditioning
    assert torch.equal(fitted.means, expected.means)
    model = network()
    model.conditioning.load_state_dict(fitted.state_dict())
    again = train(network(), CONFIG, TensorDataset(second), init=saved(model)).conditioning
    assert torch.equal(again.means, expected.means)
    assert logged == [START]
