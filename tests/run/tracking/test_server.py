"""A failing MLflow server: training is unaffected, and missed logs are delivered when the server recovers."""

import shutil
import threading
import time
from pathlib import Path
from socket import socket

import pytest
import torch
from mlflow import MlflowClient
from mlflow.server import app, constants, handlers
from runs import content, runs
from werkzeug.serving import WSGIRequestHandler, make_server

from ddpm.data.gradients import gradient_images
from ddpm.images import normalize_img
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.run.files import save_tensors
from ddpm.run.seeding import generator, global_stream
from ddpm.run.tracking import delivery
from ddpm.run.tracking import record as tracking
from ddpm.run.tracking.outbox import waiting
from ddpm.run.tracking.record import stage_run
from ddpm.run.tracking.sender import Sender  # conftest replaces it in `record`
from ddpm.training.course import COURSE_DEFAULTS
from ddpm.training.fit import fit
from ddpm.training.loop import Examples
from ddpm.training.params import Training

# MLflow's use of SQLAlchemy and of starlette, whose class of warnings is its own
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:starlette")
SMALL = {"max_steps": 20, "lr": 0.01, "batch_size": 8, "epochs": 3.0, "log_interval": 1, "img_log_interval": 5}


class Server:
    """MLflow's server on loopback, in threads of this process.

    Attributes:
        answered: Number of requests answered, including errors.
        delay: Seconds before each answer.
        broken: Whether it answers every request with status 500.
    """

    def __init__(self):
        self.answered, self.delay, self.broken = 0, 0.0, False
        self._port = 0
        self.listen()

    def listen(self):
        self._http = make_server("127.0.0.1", self._port, self, threaded=True, request_handler=Quiet)
        self._port = self._http.server_port
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        self._http.shutdown()
        self._http.server_close()

    @property
    def uri(self):
        return f"http://127.0.0.1:{self._port}"

    def __call__(self, environ, start_response):
        time.sleep(self.delay)
        self.answered += 1
        if self.broken:
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"out of order"]
        return app(environ, start_response)

    def has_answered(self, more):
        """Wait for that many more answers, as the sender takes seconds to import mlflow."""
        wanted, deadline = self.answered + more, time.monotonic() + 100
        while self.answered < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.02)


class Quiet(WSGIRequestHandler):
    def log_request(self, *_):
        pass


@pytest.fixture
def server(repository, tmp_path, monkeypatch):
    database = shutil.copy(repository / "mlflow.db", tmp_path / "server.db")
    store = handlers._tracking_store_registry.get_store(f"sqlite:///{database}", "mlflow-artifacts:/")
    monkeypatch.setattr(handlers, "_tracking_store", store)
    monkeypatch.setattr(handlers, "_artifact_repo", None)
    monkeypatch.setenv(constants.SERVE_ARTIFACTS_ENV_VAR, "true")
    monkeypatch.setenv(constants.ARTIFACTS_DESTINATION_ENV_VAR, str(tmp_path / "server's artifacts"))
    server = Server()
    yield server
    server.stop()


def train(log=None):
    """The weights of a small training."""
    images = normalize_img(gradient_images(40, (3, 4, 5), generator(0, "images")))
    with global_stream(0, "init"):
        model = TinyDiffuser(TinyDiffuserConfig((3, 4, 5), 16, 20))
    fit(model, Training(**COURSE_DEFAULTS | SMALL), Examples(images), Examples(images[:8]), log=log)
    return model.state_dict()


def stage(in_the_middle=lambda: None):
    """Run a training stage with its usual logs, and return the weights."""
    save_tensors(Path("images.safetensors"), images=torch.zeros(1))
    with stage_run("train_tiny", {"lr": 0.01, "tiny": {"n": 3}}) as run:
        run.log_input(Path("images.safetensors"))
        weights = train(Interrupted(run, in_the_middle))
        save_tensors(Path("weights.safetensors"), **weights)
        run.log_artifact(Path("weights.safetensors"))
    return weights


class Interrupted:
    """A stage's run as the log of the training, which calls `something` at step 7."""

    def __init__(self, run, something):
        self._run, self._something = run, something

    def log_metrics(self, metrics, step):
        if step == 7:
            self._something()
        self._run.log_metrics(metrics, step)

    def log_image(self, image, key, step):
        self._run.log_image(image, key, step)


@pytest.mark.parametrize("fault", ["answers 500", "is slow", "dies in mid-training"])
def test_failing_server_delays_logs_but_not_training(server, fault, monkeypatch, capfd):
    untracked = train()
    stage()
    _, [direct] = runs()
    direct = content(direct)
    assert waiting() == []

    opened, connect = [], socket.connect

    def watched(self, address):
        opened.extend([address] if isinstance(address, tuple) else [])  # the sender's own is a path
        return connect(self, address)

    def in_the_middle():
        server.has_answered(1 if fault == "answers 500" else 3)
        if fault == "dies in mid-training":
            server.stop()

    server.broken, server.delay = fault == "answers 500", float(fault == "is slow")
    with monkeypatch.context() as patch:
        patch.setattr(tracking, "Sender", Sender)
        patch.setattr(socket, "connect", watched)
        patch.setenv("MLFLOW_TRACKING_URI", server.uri)
        weights = stage(in_the_middle)
    assert opened == []  # so it waited for no answer
    assert all(torch.equal(weights[name], untracked[name]) for name in untracked)
    assert weights.keys() == untracked.keys()
    [warning] = [
        line for line in capfd.readouterr().err.splitlines() if line.startswith("warning")
    ]  # the server logs too
    assert warning.startswith("warning: MLflow failed, so this stage is kept")
    assert len(waiting()) == 1

    server.broken, server.delay = False, 0.0
    if fault == "dies in mid-training":
        server.listen()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert delivery.send() == 0
    assert waiting() == []
    _, [late] = runs()
    assert content(late) == direct
    assert len(MlflowClient(server.uri).get_metric_history(late.info.run_id, "train/loss")) == 15
