"""What a stage receives, what is logged around it, and how it ends when something fails."""

import json
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from project import REPO

from ddpm.errors import UserError
from ddpm.run import stage as module
from ddpm.run.compute import Compute
from ddpm.run.params import Section
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import derive_seed
from ddpm.run.stage import COMPUTE, Stage, run, run_stage
from ddpm.run.tracking.record import Run
from ddpm.run.yaml import dump_yaml

VALUES = {
    "seed": 7,
    "device": "cpu",
    "precision": "fp32",
    "processes": 1,
    "checkpoint_seconds": 5.0,
    "paint": {"color": "red"},
    "draw": {"wall": {"color": "blue"}},
}


class Paint(Section):
    color: str


class Log(Run):
    """Records what is logged, in order."""

    def __init__(self):
        self.seen = []

    def log_metrics(self, metrics, step):
        self.seen.append(("metrics", *metrics, step))

    def log_artifact(self, path):
        self.seen.append(("output", path.as_posix(), path.read_text()))

    def log_input(self, path):
        self.seen.append(("input", path.as_posix()))


@pytest.fixture
def log(tmp_path, monkeypatch):
    """The log of the next stage that runs in an empty project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    script = tmp_path / "stages/paint.py"
    script.parent.mkdir()
    script.write_text("COLORS = 3\n")
    (tmp_path / "in.txt").write_text("in")
    (tmp_path / "params.yaml").write_text(dump_yaml(VALUES))
    monkeypatch.setattr("sys.argv", ["stages/paint.py"])
    log = Log()

    @contextmanager
    def opened(name, params):
        log.seen.append(("open", name, params))
        try:
            yield log
        finally:
            log.seen.append(("close",))

    monkeypatch.setattr(module, "stage_run", opened)
    threads = torch.get_num_threads()
    yield log
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def test_stage_receives_params_seed_and_compute(log):
    got = []
    run_stage("paint", Stage(got.append, section=Paint))
    [at_work] = got
    assert at_work.params == Paint(color="red")
    assert (at_work.name, at_work.root_seed, at_work.seed) == ("paint", 7, derive_seed(7, "paint"))
    assert (at_work.compute, at_work.log, at_work.resume) == (Compute(torch.device("cpu"), "fp32"), log, None)
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()


def test_stage_without_params_sets_nothing_up(log):
    got = []
    before = torch.are_deterministic_algorithms_enabled()
    run_stage("any", Stage(got.append, general=()))
    assert got[0].params is None
    assert torch.are_deterministic_algorithms_enabled() == before
    assert log.seen[0] == ("open", "any", {})


def test_files_named_in_params_are_inputs_and_determinants(log, monkeypatch):
    class Framed(Paint):
        @property
        def files(self):
            return [f"frames/{self.color}.txt"]

    abouts = []
    monkeypatch.setattr(module, "Resume", lambda _, about, __: abouts.append(about) or nullcontext())
    path = Path("frames/red.txt").resolve()
    path.parent.mkdir()
    for text in ("oak", "pine", "pine"):
        path.write_text(text)
        run_stage("paint", Stage(lambda _: None, section=Framed, deps=["in.txt"], resumes=True))
    assert [("input", name) for name in ("in.txt", "red.txt")] == [
        (kind, Path(name).name) for kind, name in (entry for entry in log.seen if entry[0] == "input")
    ][:2]
    assert abouts[0] != abouts[1] == abouts[2]
    assert {key for key in abouts[0] if abouts[0][key] != abouts[1][key]} == {str(path)}


def test_stage_logs_inputs_metrics_and_outputs_in_order(log):
    def main(stage):
        stage.log.log_metrics({"loss": 1.0}, 3)
        for name in ("out.txt", "report.txt", "plot.csv", "metrics.json"):
            Path(name).write_text(name)

    files = {"outs": ["out.txt", "report.txt"], "metrics": ["metrics.json"], "plots": ["plot.csv"]}
    run_stage("draw_wall", Stage(main, section=Paint, key="draw.wall", general=("seed",), deps=["in.txt"], **files))
    assert log.seen == [
        ("open", "draw_wall", {"seed": 7, "draw.wall": {"color": "blue"}}),
        ("input", "in.txt"),
        ("metrics", "loss", 3),
        *(("output", name, name) for name in ("out.txt", "report.txt", "metrics.json", "plot.csv")),
        ("metrics", "system/peak_memory_mib", 0),
        ("close",),
    ]


def test_general_params_default_to_seed_device_precision(log):
    run_stage("paint", Stage(lambda _: None, section=Paint))
    assert COMPUTE == ("seed", "device", "precision")
    assert log.seen[0][2].keys() == {*COMPUTE, "paint"}


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(("general", "most"), [(COMPUTE, 8), (("seed",), 1), ((), 1)])
def test_only_stages_that_compute_share_their_work(general, most, monkeypatch):
    class Shared(Paint):
        @property
        def most_processes(self):
            return 8

    asked = []
    monkeypatch.setattr(module, "together", lambda n, most: asked.append((n, most)) or nullcontext())
    run_stage("paint", Stage(lambda _: None, section=Shared, general=general))
    assert asked == [(1, most)]


def test_untracked_stage_opens_no_run(log):
    run_stage("paint", Stage(lambda stage: stage.log.log_metrics({"a": 1.0}, 1), tracked=False))
    assert log.seen == []


@pytest.mark.usefixtures("log")
def test_failed_stage_resumes_and_deletes_state_when_done(tmp_path):
    made = []

    def broken():
        raise RuntimeError("broken")

    def main(stage):
        pieces = Pieces(stage.resume)
        first, second = lambda: made.append(1) or (torch.ones(1),), lambda: (torch.ones(1),)
        list(pieces({"one": first, "two": broken if not made else second}))
        Path("out.txt").write_text("done")

    stage = Stage(main, section=Paint, deps=["in.txt"], outs=["out.txt"], resumes=True)
    with pytest.raises(RuntimeError, match="broken"):
        run_stage("paint", stage)
    made.append(0)
    [kept] = (tmp_path / ".resume").glob("*.safetensors")
    assert kept.name.startswith("paint-")
    run_stage("paint", stage)
    assert made == [1, 0]
    assert list((tmp_path / ".resume").iterdir()) == []


@pytest.mark.usefixtures("log")
def test_resume_state_depends_on_params_inputs_and_code(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(module, "Resume", lambda _, *rest: seen.append(rest) or nullcontext())
    stage = Stage(lambda _: None, section=Paint, deps=["in.txt"], resumes=True)

    def about(**values):
        (tmp_path / "params.yaml").write_text(dump_yaml(VALUES | values))
        run_stage("paint", stage)
        return seen[-1]

    first, every = about()
    assert every == 5
    assert {"paint.color", "seed", "in.txt", "stages/paint.py"} <= first.keys()
    assert about(checkpoint_seconds=0.0) == (first, 0)
    assert about(draw={"wall": {"color": "green"}}) == (first, 5)
    assert about(paint={"color": "green"})[0] != first
    (tmp_path / "in.txt").write_text("other")
    assert about()[0]["in.txt"] != first["in.txt"]
    (tmp_path / "stages/paint.py").write_text("COLORS = 4\n")
    assert about()[0]["stages/paint.py"] != first["stages/paint.py"]
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan/paint.json").write_text(json.dumps({"stages/paint.py": "of an older version"}))
    assert about()[0]["stages/paint.py"] != "of an older version"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("lr is 0; it must be positive"), 2, "paint: lr is 0; it must be positive\n"),
        (OSError(13, "Permission denied", "a/b"), 2, "paint: a/b: Permission denied; no partial output is left\n"),
        (OSError("odd"), 2, "paint: odd; no partial output is left\n"),
        (MemoryError(), 2, "paint: out of memory; lower the batch size, the model or n_samples in params.yaml\n"),
        (RuntimeError("CUDA out of memory. Tried"), 2, "paint: out of memory; lower"),
        (KeyboardInterrupt(), 130, "paint: stopped\n"),
    ],
)
def test_expected_errors_are_reported_in_one_line(error, status, said, log, capsys):
    def main(_):
        raise error

    with pytest.raises(SystemExit) as end:
        run({"paint": Stage(main)})
    assert end.value.code == status
    assert capsys.readouterr().err.startswith(said)
    assert log.seen[-1] == ("close",)


def test_unexpected_errors_keep_their_traceback(log):
    def main(_):
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        run({"paint": Stage(main)})
    assert log.seen[-1] == ("close",)


@pytest.mark.parametrize("words", [["walk"], ["paint", "draw"], ["paint draw"]])
def test_unknown_stage_name_lists_available_stages(words, log, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["stages/paint.py", *words])
    with pytest.raises(SystemExit) as end:
        run({"paint": Stage(lambda _: None), "draw": Stage(lambda _: None)})
    assert end.value.code == 2
    assert f"the stage is {' '.join(words)}; stages/paint.py has paint, draw" in capsys.readouterr().err
    assert log.seen == []


@pytest.mark.usefixtures("log")
def test_run_executes_named_stage(monkeypatch):
    done = []
    monkeypatch.setattr("sys.argv", ["stages/paint.py", "draw"])
    run({name: Stage(lambda stage: done.append(stage.name)) for name in ("paint", "draw")})
    assert done == ["draw"]


def test_library_imports_without_unix_modules(tmp_path):
    program = (
        "import psutil, torch, sys, signal; sys.modules['resource'] = None; del signal.SIGHUP\n"
        "signal.Signals = [s for s in signal.Signals if s.name != 'SIGHUP']\n"
        "from ddpm.run.stage import peak_memory; import ddpm.run.resume.context, ddpm.run.tracking.delivery\n"
        "assert peak_memory() == {}\n"
    )
    environment = {"PYTHONPATH": str(REPO / "src"), "PATH": ""}
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, check=True)
