"""What SECURITY.md promises: files execute no code, archives stay in their folder, secrets stay secret."""

import ast
import hashlib
import io
import os
import pickle
import shutil
import tarfile

import pytest
import torch
from project import REPO

from ddpm.data.dataset import load_dataset
from ddpm.data.datasets import fashion_mnist
from ddpm.data.download import UnusableError
from ddpm.errors import UserError
from ddpm.evaluation import inception
from ddpm.evaluation.classifier import load_classifier
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import load_tensors
from ddpm.run.resume.file import read_about
from ddpm.run.resume.state import TrainingState
from ddpm.run.tracking import __main__ as tracking
from ddpm.run.tracking.record import stage_run

SECRET = "hunter2"


class Hostile:
    """Makes a folder when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "load",
    [load_model, load_classifier, load_tensors, load_dataset, read_about, TrainingState({}, []).load],
    ids=["model", "classifier", "tensors", "data set", "state's description", "state"],
)
def test_loaders_reject_pickles_without_executing_them(load, tmp_path):
    path, trace = tmp_path / "m.safetensors", tmp_path / "executed"
    path.write_bytes(pickle.dumps(Hostile(trace)))
    with pytest.raises(UserError, match=r"m\.safetensors: ") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.exists()  # it would have worked


FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {("torch", "load"), ("torch", "save"), ("np", "load"), ("os", "system"), ("os", "popen")}


def dangers(source):
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (n.name for n in names if n.name.partition(".")[0] in FORBIDDEN_MODULES)
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in FORBIDDEN_MODULES:
                yield module
            case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN_NAMES:
                yield name
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if (name, attribute) in FORBIDDEN_ATTRIBUTES:
                yield f"{name}.{attribute}"
            case ast.keyword(arg="shell" | "allow_pickle", value=ast.Constant(value=True)):
                yield node.arg
            case ast.keyword(arg="typ", value=ast.Constant(value="unsafe")):
                yield "unsafe YAML"


def test_source_does_not_use_unsafe_loaders():
    files = [path for name in ("src", "stages", "doors", "benchmarks") for path in REPO.glob(f"{name}/**/*.py")]
    assert len(files) > 300
    found = {path.relative_to(REPO).as_posix(): [*dangers(path.read_text())] for path in files}
    assert {path: names for path, names in found.items() if names} == {
        "src/ddpm/evaluation/inception.py": ["torch.load"],  # see the test below
        "src/ddpm/data/datasets/npz.py": ["np.load"],  # with allow_pickle=False: tests/data/datasets/test_arrays.py
        "src/ddpm/run/yaml.py": ["yaml"],  # a subclass of SafeLoader: tests/run/test_yaml.py
    }
    assert {name.partition("/")[0] for name in found} == {"src", "stages", "doors", "benchmarks"}
    bad = "import yaml\nfrom pickle import load\neval(x)\ntorch.load(x)\nrun(x, shell=True)\nYAML(typ='unsafe')\n"
    assert len([*dangers(bad)]) == 6


def test_inception_weights_load_without_executing_code(tmp_path, monkeypatch):
    tree = ast.parse((REPO / "src/ddpm/evaluation/inception.py").read_text())
    [call] = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"]
    assert {word.arg: ast.unparse(word.value) for word in call.keywords} == {"weights_only": "True"}
    path, trace = tmp_path / inception.WEIGHTS, tmp_path / "executed"
    torch.save({"fc.weight": Hostile(trace)}, path, _use_new_zipfile_serialization=False)
    for size in (path.stat().st_size, inception.WEIGHTS_SIZE):
        monkeypatch.setattr(inception, "WEIGHTS_SIZE", size)
        with pytest.raises(
            UserError, match=r"not pt_inception-2015-12-05-6726825d\.pth, whose SHA-256 starts with 672"
        ):
            inception.load_inception(path)
    # Even if its digest were right:
    monkeypatch.setattr(inception, "WEIGHTS_SIZE", path.stat().st_size)
    monkeypatch.setattr(inception, "WEIGHTS_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        inception.load_inception(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # it would have worked


def deb(path, members):
    """A Debian package whose data are `members`: (name in the archive, symlink's target or None)."""

    def tar(entries):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name, target in entries:
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = (tarfile.SYMTYPE, target) if target else (tarfile.REGTYPE, "")
                entry.size = 0 if target else 5
                archive.addfile(entry, None if target else io.BytesIO(b"hello"))
        return file.getvalue()

    parts = {"debian-binary": b"2.0\n", "control.tar": tar([("./control", None)]), "data.tar": tar(members)}
    with path.open("wb") as file:  # the format of `ar`
        file.write(b"!<arch>\n")
        for name, data in parts.items():
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode())
            file.write(data + b"\n" * (len(data) % 2))


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not on this machine")
@pytest.mark.parametrize(
    "members",
    [
        [("./fine", None), ("../../escaped", None)],
        [("./out", "../.."), ("./out/escaped", None)],
        [("./usr", "{outside}"), ("./usr/escaped", None)],
        [("./usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz", "{outside}/other")],
    ],
    ids=["parent folder", "relative link", "absolute link", "link in place of a file"],
)
def test_hostile_deb_writes_nothing_outside_its_folder(members, tmp_path, monkeypatch):
    for name in ("bin", "tmp", "outside"):
        (tmp_path / name).mkdir()
    outside = tmp_path / "outside"
    (outside / "other").write_text("of the user")
    deb(tmp_path / "bad.deb", [(name, target and target.format(outside=outside)) for name, target in members])
    apt_get = f"#!/bin/sh\ncp {tmp_path}/bad.deb ./dataset-fashion-mnist_1_all.deb\n"
    (tmp_path / "bin/apt-get").write_text(apt_get)
    (tmp_path / "bin/apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))

    def no_mirror(*_):
        raise UnusableError("no mirror")

    monkeypatch.setattr(fashion_mnist, "from_torchvision", no_mirror)
    with pytest.raises(UserError, match=r"Debian's package: (.*dpkg-deb: error|train-images-idx3-ubyte.gz is missing)"):
        fashion_mnist.load()
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left == {"bin", "bin/apt-get", "bad.deb", "tmp", "outside", "outside/other"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's use of SQLAlchemy
def test_environment_secrets_are_not_logged_to_mlflow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    for name in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, SECRET)
    with stage_run("train_tiny", {"lr": 0.125}) as run:
        run.log_metrics({"loss": 1.0}, 1)
        run.log_artifact(REPO / "params.yaml")
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"0.125" in kept
    assert SECRET.encode() not in kept


def test_server_password_is_not_printed_or_stored(monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:{SECRET}@127.0.0.1:9")
    with stage_run("train_tiny", {"lr": 1}):
        pass
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"http://127.0.0.1:9" in kept
    assert SECRET.encode() not in kept
    assert b"someone" not in kept
    shown = "".join(capfd.readouterr())
    assert "warning: MLflow failed" in shown
    assert "127.0.0.1" in shown
    assert SECRET not in shown
    assert "someone" not in shown


def test_ui_binds_to_localhost_only(monkeypatch, tmp_path, capsys):
    makefile = (REPO / "Makefile").read_text()
    assert "python -m ddpm.run.tracking ui" in makefile
    assert "mlflow ui" not in makefile
    started = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(tracking, "connect", lambda: (None, "1"))
    monkeypatch.setattr("os.execv", lambda _, command: started.append(command))
    tracking.ui()
    assert started[0][1:4] == ["-m", "mlflow", "ui"]
    assert started[0][started[0].index("--host") + 1] == "127.0.0.1"
    assert "0.0.0.0" not in " ".join(started[0])
    assert capsys.readouterr().out.startswith(
        "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning"
    )
