"""What a plan leaves out cannot change a result: stages run again with all of it perturbed.

`PERTURBED` has an entry for each module of `NEUTRAL`, so that none is added without a perturbation.
"""

import logging
import random
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from project import NOWHERE, REPO, TINY, write_params
from whole import stages

import ddpm
from ddpm.data.dataset import ImageDataset, save_dataset
from ddpm.data.gradients import gradient_images
from ddpm.networks.network import NETWORKS
from ddpm.run import stage as stage_module
from ddpm.run.plan import NEUTRAL
from ddpm.run.resume import context
from ddpm.run.seeding import generator
from ddpm.run.stage import Stage, run_stage
from ddpm.run.tracking.record import Run
from ddpm.sampling.sampler import SAMPLERS


def stir():
    """Use and reseed every global random state."""
    torch.rand(3), np.random.rand(3), random.random()
    torch.manual_seed(torch.initial_seed() + 1)


class StirringRun(Run):
    """A tracking run that perturbs whatever it can at each call."""

    def log_metrics(self, metrics, step):  # noqa: ARG002
        stir()
        if isinstance(metrics, dict):
            metrics.clear()

    def log_image(self, image, key, step):  # noqa: ARG002
        stir()
        image.fill_(0.5)

    def log_input(self, path):  # noqa: ARG002
        stir()

    log_artifact = log_input


class StirringResume(context.Resume):
    """Saves nothing, and perturbs."""

    def start(self, *_):
        stir()

    def after_step(self, *_):
        stir()

    def save(self, *_):
        stir()


def tracking(patch):
    @contextmanager
    def stirring_run(*_):
        stir()
        yield StirringRun()

    patch.setattr(stage_module, "stage_run", stirring_run)


def resume(patch):
    patch.setattr(stage_module, "Resume", StirringResume)
    patch.setattr(context, "LOOK_SECONDS", 0.01)


def stage(patch):
    """test_stage.py tests what a stage passes on. Here, its own metrics and messages change."""
    patch.setattr(stage_module, "peak_memory", lambda: stir() or {})
    patch.setattr(logging.getLogger(), "level", logging.DEBUG)
    patch.setenv("TQDM_MININTERVAL", "0")


def params(_):
    """Values are passed on unchanged (test_params.py). Here, the others in the file change."""
    write_params(Path(), {"checkpoint_seconds": 0, "train_unet": {"lr": 0.5}, "bound": {"stride": 7}})


def yaml(_):
    """test_yaml.py tests that YAML is read as by DVC. Here, the file's layout changes."""
    path = Path("params.yaml")
    path.write_text("# Another comment.\n" + path.read_text().replace("  # ", "    # "))


def registry(_):
    """Unchosen entries are imported first."""
    for entries in (SAMPLERS, NETWORKS):
        for name in reversed(list(entries)):
            assert entries[name]


def plan(patch):
    patch.setattr(stage_module, "current_digests", lambda *_: {"another": "version"})


def errors(patch):
    patch.setattr("ddpm.errors.UserError.__str__", lambda _: "another message")


def baseline(patch):
    patch.setattr("ddpm.run.baseline.committed_params", lambda: "seed: 7")


def experiment(patch):
    patch.setattr("ddpm.run.experiment._command", lambda: (["dvc", "exp", "run", "-S", "seed=7"], Path()))


def invocation(patch):
    patch.setattr(context, "dvc_process", lambda: psutil.Process(1))


def processes(patch):
    """test_processes.py tests that their number changes nothing. Here, tasks are done in another order."""
    for module in ("ddpm.training.evaluate", "ddpm.run.resume.pieces"):
        patch.setattr(f"{module}.shared", lambda tasks, _="": [task() for task in reversed(tasks)][::-1])


def progress(patch):
    patch.setattr("ddpm.training.fit.hidden", lambda: False)


def root(patch):
    patch.setenv("DVC_ROOT", str(Path("elsewhere").absolute()))


def package(patch):
    patch.setattr(ddpm, "__getattr__", None)


PERTURBED = {
    "ddpm": package,
    "ddpm.errors": errors,
    "ddpm.run.baseline": baseline,
    "ddpm.run.experiment": experiment,
    "ddpm.registry": registry,
    "ddpm.run.invocation": invocation,
    "ddpm.run.params": params,
    "ddpm.run.plan": plan,
    "ddpm.run.processes": processes,
    "ddpm.run.progress": progress,
    "ddpm.run.resume": resume,
    "ddpm.run.root": root,
    "ddpm.run.stage": stage,
    "ddpm.run.tracking": tracking,
    "ddpm.run.yaml": yaml,
}


def test_every_neutral_module_has_a_perturbation():
    assert PERTURBED.keys() == set(NEUTRAL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project with gradients to train on, as the working folder."""
    (tmp_path / "params.yaml").write_text((REPO / "params.yaml").read_text())
    write_params(tmp_path, TINY)
    for name in ("src", "stages"):
        (tmp_path / name).symlink_to(REPO / name)
    for split, n in (("train", 300), ("held_out", 40)):
        dataset = ImageDataset(gradient_images(n, (3, 4, 5), generator(0, split)))
        save_dataset(tmp_path / f"data/gradients/{split}.safetensors", dataset)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def outputs(name, disturbed, stage=None):
    """The files that a stage writes, with every neutral module perturbed or none."""
    declared = stages().get(name)
    stage = stage or declared.stage
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [str(declared.script) if declared else "stages/train.py", name])
        if disturbed:
            for perturb in PERTURBED.values():
                perturb(patch)
            stir()
        run_stage(name, stage)
    return {path: path.read_bytes() for path in stage.outputs}


def test_perturbed_neutral_modules_do_not_change_outputs(folder):
    expected = {name: outputs(name, disturbed=False) for name in ("train_tiny", "sample_tiny")}
    for path in ("models", "samples", "reports"):
        shutil.rmtree(folder / path)
    for name, files in expected.items():
        assert outputs(name, disturbed=True) == files
        assert len(files) >= 1


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("leak", ["global random state", "what was logged", "resume"])
def test_perturbations_change_outputs_of_leaky_stages(leak):
    def main(stage):
        numbers = {"loss": 1.0}
        stage.log.log_metrics(numbers, 1)
        if leak == "global random state":
            numbers = {"loss": torch.rand(1).item()}
        if leak == "resume":
            numbers = {"loss": float(type(stage.resume) is context.Resume)}
        Path("out.txt").write_text(f"{numbers}")

    leaky = Stage(main, outs=["out.txt"], resumes=True)
    torch.manual_seed(0)
    expected = outputs("leaky", disturbed=False, stage=leaky)
    torch.manual_seed(0)
    assert outputs("leaky", disturbed=True, stage=leaky) != expected
    honest = replace(leaky, main=lambda stage: Path("out.txt").write_text(str(stage.seed)))
    assert outputs("leaky", True, honest) == outputs("leaky", False, honest)
