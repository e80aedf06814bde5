"""Two clones with one MLflow server that stores runs in PostgreSQL and artifacts in S3: `make torture`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from runs import parent_id, runs
from team import SECRETS, missing, team

import ddpm

pytestmark = [
    pytest.mark.torture,
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's use of SQLAlchemy
]
N = 5  # stages of each clone that write at once
LOGIN = {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "myS3cret"}
STAGE = """
import sys
from pathlib import Path
from ddpm.run.tracking.record import stage_run

name = sys.argv[1]
with stage_run(name, {"lr": 0.1}) as run:
    for step in range(1, 301):
        run.log_metrics({"loss": 1 / step}, step)
    Path(f"{name}.txt").write_text(f"{name} of {Path.cwd().name}")
    run.log_artifact(Path(f"{name}.txt"))
"""
DVC = """
import subprocess, sys
started = [subprocess.Popen([sys.executable, "stage.py", name]) for name in sys.argv[1:]]
sys.exit(max(process.wait() for process in started))
"""


class Clone:
    """A repository with stages, and its output."""

    def __init__(self, folder, uri):
        (folder / ".dvc").mkdir(parents=True)
        for name, text in (("stage.py", STAGE), ("dvc", DVC)):
            (folder / name).write_text(text)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_"))}
        own = {"MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(Path(ddpm.__file__).parents[1])}
        self.folder, self.environment, self.said = folder, kept | LOGIN | own, ""

    def start(self, *command):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([sys.executable, *command], cwd=self.folder, env=self.environment, **pipes)

    def finish(self, process, status=0):
        said = process.communicate(timeout=500)[0]
        assert process.returncode == status, said
        self.said += said
        return said

    def send(self):
        return self.finish(self.start("-m", "ddpm.run.tracking", "send"))


def test_concurrent_clones_lose_duplicate_and_leak_nothing(tmp_path):
    with team(tmp_path) as server:
        clones = [Clone(tmp_path / name, server.uri) for name in ("one", "two")]
        for stages in (range(N), range(N, N + 1)):  # at once, then without the server
            names = [f"s{i}" for i in stages]
            for clone, process in [(clone, clone.start("dvc", *names)) for clone in clones]:
                clone.finish(process)
            if len(names) > 1:
                for clone in clones:
                    clone.send()  # what did not fit in ten seconds
                server.stop()
        for clone in clones:
            assert "MLflow failed, so this stage is kept" in clone.said
        server.start()
        for clone in clones:
            assert "runs sent" in clone.send()
            assert "nothing to send" in clone.send()

        parents, children = runs(server.uri)
        whose = {parent.info.run_id: parent.data.tags["dvc.invocation"] for parent in parents}
        assert len(parents) == 4  # two pipelines of each clone
        groups = {}
        for child in children:
            groups.setdefault(whose[parent_id(child)], []).append(child.info.run_name)
        expected = [[f"s{i}" for i in range(N)]] * 2 + [[f"s{N}"]] * 2
        assert sorted(sorted(names) for names in groups.values()) == sorted(expected)
        assert {run.info.status for run in parents + children} == {"FINISHED"}

        client = MlflowClient(server.uri)
        texts = []
        for child in children:
            history = client.get_metric_history(child.info.run_id, "loss")
            assert sorted((each.step, each.value) for each in history) == [(k, 1 / k) for k in range(1, 301)]
            path = client.download_artifacts(child.info.run_id, f"{child.info.run_name}.txt", str(tmp_path))
            texts.append(Path(path).read_text())
        assert sorted(texts) == sorted(f"s{i} of {name}" for i in range(N + 1) for name in ("one", "two"))

        told = [clone.said for clone in clones]
        told += [str(run.data.tags) + str(run.data.params) for run in parents + children]
        told += [file.read_text() for clone in clones for file in clone.folder.rglob("*") if file.is_file()]
        told += [(tmp_path / f"{name}.log").read_text() for name in ("server", "postgres", "moto")]
        for secret in (*SECRETS.values(), LOGIN["MLFLOW_TRACKING_PASSWORD"]):
            assert not any(secret in text for text in told)
