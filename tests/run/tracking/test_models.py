"""Trained networks as MLflow models: versions, the champion, and images from `mlflow models serve`."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND
from project import REPO
from runs import closed_port, runs, under_dvc

from ddpm import NoiseSchedule, Unet, UnetConfig, denormalize_img, load_model, sample, save_model
from ddpm.images import to_uint8
from ddpm.run.tracking import model_registry, store
from ddpm.run.tracking.outbox import tracking_uri, waiting
from ddpm.run.tracking.record import stage_run
from ddpm.sampling.sampler import SAMPLERS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow's
SETTINGS = {
    "sampler": "ddim",
    "n_steps": 4,
    "spacing": "even",
    "clip_sample": True,
    "guidance_scale": 1.0,
    "options": {"eta": 0.5},
}
NAME = "ddpm-unet"


@pytest.fixture
def network():
    """A network of images of 8x10 pixels and 3 channels, as a file."""
    torch.manual_seed(0)
    model = Unet(UnetConfig(img_shape=(3, 8, 10), max_steps=10, channels=8, dim_mults=(1, 2), groups=2, heads=1))
    model.noise_schedule = NoiseSchedule(10)
    save_model(Path("unet.safetensors"), model, {})
    return Path("unet.safetensors")


def log(network, auc, monkeypatch, key, n_samples="1024"):
    """A pipeline whose network has this AUC on this many samples."""
    under_dvc(monkeypatch, key)
    about = {"name": "unet", "img_shape": (3, 8, 10), "settings": SETTINGS}
    judged = {"metrics": {"auc": auc}, "headline": "auc", "judged_by": {"data.name": "a", "n_samples": n_samples}}
    with stage_run("summary", {}) as run:
        run.log_model(network, about | judged)


def registered():
    """The AUCs of all versions, and the number of the champion."""
    client = MlflowClient(tracking_uri())
    versions = sorted(client.search_model_versions(f"name='{NAME}'"), key=lambda version: int(version.version))
    champion = client.get_model_version_by_alias(NAME, "champion")
    return [float(version.tags["auc"]) for version in versions], int(champion.version)


def test_each_run_adds_a_version_and_best_is_champion(network, monkeypatch):
    found = []
    for key, auc in enumerate((0.9, 0.7, 0.8)):
        log(network, auc, monkeypatch, str(key))
        found.append(registered())
    assert found == [([0.9], 1), ([0.9, 0.7], 2), ([0.9, 0.7, 0.8], 2)]
    assert waiting() == []
    parents, _ = runs()
    versions = MlflowClient(tracking_uri()).search_model_versions(f"name='{NAME}'")
    assert {version.run_id for version in versions} == {parent.info.run_id for parent in parents}
    MlflowClient(tracking_uri()).delete_model_version(NAME, "2")
    log(network, 0.85, monkeypatch, "another")
    assert registered()[1] == 4


def test_champion_is_compared_only_under_same_evaluation(network, monkeypatch):
    for key, (auc, n_samples) in enumerate(((0.9, "1024"), (0.5, "96"), (0.8, "1024"))):
        log(network, auc, monkeypatch, str(key), n_samples)
    assert registered() == ([0.9, 0.5, 0.8], 3)
    client = MlflowClient(tracking_uri())
    said = [client.get_model_version(NAME, version).description for version in "123"]
    assert said[1] == "Not compared with the champion, version 1: n_samples is 96, not 1024."
    assert not said[0]
    assert not said[2]


def test_interrupted_delivery_creates_one_model_version(network, monkeypatch):
    create, calls = MlflowClient.create_model_version, []

    def breaks_off(self, *args, **kwargs):
        calls.append(args)
        if len(calls) == 1:
            raise ConnectionError("gone")
        return create(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_model_version", breaks_off)
    log(network, 0.9, monkeypatch, "one")
    [folder] = waiting()
    for _ in range(2):
        store.Store(3).deliver(folder, over=True)
    assert registered() == ([0.9], 1)
    client = MlflowClient(tracking_uri())
    assert len(client.search_logged_models([client.get_experiment_by_name("ddpm").experiment_id])) == 1


@pytest.mark.parametrize(("clip_sample", "kind"), [(True, "boolean"), (0.995, "double")])
def test_signature_default_of_clip_sample_matches_run(clip_sample, kind):
    said = model_registry.signature((3, 8, 10), SETTINGS | {"clip_sample": clip_sample}).params.to_dict()
    (found,) = [param for param in said if param["name"] == "clip_sample"]
    assert (found["type"], found["default"]) == (kind, clip_sample)


def test_server_without_logged_models_receives_the_rest(network, monkeypatch, capsys):
    def unknown(*_, **__):
        raise MlflowException("API request failed with error code 404", ENDPOINT_NOT_FOUND)

    monkeypatch.setattr(MlflowClient, "create_logged_model", unknown)
    log(network, 0.9, monkeypatch, "one")
    assert "MLflow rejected a part of this stage: API request failed" in capsys.readouterr().err
    assert waiting() == []
    _, [run] = runs()
    assert run.info.status == "FINISHED"


def as_the_library(network, n, seed, **options):
    images = sample(load_model(network), n, generator=torch.Generator().manual_seed(seed), clip_sample=True, **options)
    return to_uint8(denormalize_img(images)).permute(0, 2, 3, 1).numpy()


def test_served_model_matches_library(network, monkeypatch, repository):
    """`mlflow models serve` outside the project, queried over HTTP, and the same model in Python."""
    log(network, 0.9, monkeypatch, "one")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": tracking_uri()}
    environment.pop("PYTHONPATH", None)
    address = closed_port()
    (repository / "elsewhere").mkdir()
    command = ["models", "serve", "-m", f"models:/{NAME}@champion", "--env-manager", "local", "-p", address[17:]]
    with (repository / "serve.log").open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command],
            cwd=repository / "elsewhere",
            env=environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        ask_until_it_answers(address, server)
        expected = as_the_library(network, 3, 7, sampler="ddim", n_steps=4, eta=0.5)
        assert np.array_equal(ask(address, n=3, seed=7), expected)
        assert ask(address, n=1).shape == (1, 8, 10, 3)
        expected = as_the_library(network, 2, 0, sampler="ancestral", n_steps=5)
        assert np.array_equal(ask(address, n=2, sampler="ancestral", n_steps=5), expected)
        for mistake, said in (({"n": -1}, "n_samples is -1"), ({"n": 1, "sampler": "euler"}, "'euler' is not a")):
            with pytest.raises(HTTPError) as error:
                ask(address, **mistake)
            assert said in json.load(error.value)["message"]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    # In its own process: MLflow keeps the store that a process used first.
    subprocess.run([sys.executable, "-c", LOADED], env=environment, check=True, capture_output=True)
    expected = as_the_library(network, 3, 7, sampler="ddim", n_steps=4, eta=0.5)
    assert np.array_equal(np.load("loaded.npy"), expected)


LOADED = f"""
import numpy as np
from mlflow import pyfunc
model = pyfunc.load_model("models:/{NAME}@champion")
np.save("loaded.npy", model.predict({{"n": [3]}}, params={{"seed": 7}}))
"""


def ask(address, n, **params):
    body = json.dumps({"inputs": {"n": [n]}, "params": params}).encode()
    request = Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=60) as answer:
        return np.array(json.load(answer)["predictions"], dtype=np.uint8)


def ask_until_it_answers(address, server):
    deadline = time.monotonic() + 120
    while True:
        try:
            return urlopen(f"{address}/ping", timeout=5).close()
        except OSError:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)


SAMPLING = """
import sys
from importlib.metadata import packages_distributions
from ddpm import load_model, sample
for sampler in sys.argv[1:]:
    sample(load_model("unet.safetensors"), 1, n_steps=5, sampler=sampler)
found = packages_distributions()
print(*{name for module in list(sys.modules) for name in found.get(module.partition(".")[0], ())})
"""


@pytest.mark.usefixtures("network")
def test_model_requirements_include_imports_of_sampling():
    """Only packages that the project requires are checked, as others come with them."""
    command = [sys.executable, "-c", SAMPLING, *SAMPLERS]
    imported = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    asked = {
        name.partition(">")[0]
        for name in tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["dependencies"]
    }
    needed = {name.lower() for name in imported} & asked
    assert {"torch", "einops"} < needed
    assert needed <= {name.lower() for name in model_registry.NEEDS}
