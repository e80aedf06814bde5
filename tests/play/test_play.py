"""`make play`: where it listens, what it draws with, how it starts and ends."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dvc.repo import Repo
from play.small import HOST, LABELS, network
from project import REPO

from ddpm import save_model
from ddpm.errors import UserError
from ddpm.play.__main__ import listening, main
from ddpm.play.networks import OURS, class_names, experiments, of_experiment, on_offer


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(seed: int, path: Path = OURS) -> torch.Tensor:
    model = network(seed=seed)
    save_model(path, model, {})
    return model.conv_out.weight


def test_next_free_port_is_used():
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        server = listening(port, {})
        server.server_close()
        assert port < server.server_port <= port + 100


@pytest.mark.parametrize("port", [-1000, 70_000])
def test_invalid_port_is_rejected(port):
    with pytest.raises(UserError, match=f"port is {port}; no port from there on is free"):
        listening(port, {})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], f"play: {OURS}: no such file; run `dvc repro` to train the model first"),
        (["a.safetensors"], "play: a.safetensors: no such file"),
    ],
)
def test_missing_model_is_reported_in_one_line(monkeypatch, capsys, words, says):
    monkeypatch.setattr("sys.argv", ["play", *words])
    with pytest.raises(SystemExit) as end:
        main()
    shown = capsys.readouterr()
    assert (end.value.code, shown.out, shown.err.count("\n")) == (2, "", 1)
    assert shown.err.startswith(says)


def test_play_prints_address_and_exits_cleanly_on_ctrl_c(request):
    started_with = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, started_with))
    write(0, Path("a.safetensors"))
    process = subprocess.Popen(
        [sys.executable, "-m", "ddpm.play", "a.safetensors", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith(f"http://{HOST}:")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


def test_model_files_are_offered_by_path():
    weights = {name: write(seed, Path(name)) for seed, name in enumerate(["a.safetensors", "b.safetensors"])}
    found = on_offer([Path(name) for name in weights])
    assert list(found) == list(weights)
    assert all(torch.equal(found[name]().conv_out.weight, weights[name]) for name in weights)
    assert found["a.safetensors"]() is found["a.safetensors"]()  # loaded once


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in DVC
def test_experiment_models_are_offered_by_name():
    assert experiments() == []  # no repository
    subprocess.run(["git", "init", "-q"], check=True)
    repo, ours = Repo.init(), write(1)
    repo.add(str(OURS))
    subprocess.run(["git", "add", "-A"], check=True)
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "first"], check=True)
    theirs = write(2)
    repo.add(str(OURS))
    repo.experiments.save(name="wide")
    write(1)
    found = on_offer([])
    assert list(found) == [str(OURS), "wide"]
    assert torch.equal(found[str(OURS)]().conv_out.weight, ours)
    assert torch.equal(found["wide"]().conv_out.weight, theirs)
    with pytest.raises(UserError, match=r"experiment none has no models/unet\.safetensors in DVC's cache"):
        of_experiment("none")


def test_models_of_latents_are_rejected():
    save_model(Path("latents.safetensors"), network(4), {})
    with pytest.raises(UserError, match=r"^latents\.safetensors: it generates latents or embeddings with 4 channels"):
        on_offer([Path("latents.safetensors")])


def test_class_names_come_from_data_set_if_counts_match(monkeypatch):
    monkeypatch.chdir(REPO)
    ten = network(**LABELS | {"n_classes": 10})
    assert class_names(ten)[::9] == ["T-shirt/top", "Ankle boot"]
    assert class_names(network(**LABELS)) == ["0", "1", "2"]
    assert class_names(network()) == []


def test_make_help_lists_play():
    said = subprocess.run(["make", "help"], cwd=REPO, env=os.environ, capture_output=True, text=True, check=True).stdout
    assert "make play" in said
