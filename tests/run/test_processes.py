"""Processes that share work: each task runs once, and no process outlives the others, however it ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial

import psutil
import pytest
import torch
from processes import in_processes
from project import REPO

from ddpm.errors import UserError
from ddpm.run.files import atomic_path
from ddpm.run.processes import gathered, gathered_tensors, of_first, rank, shared, size, together
from ddpm.run.progress import hidden
from ddpm.run.resume.follower import check_agreement

SCRIPT = """
import os, sys, time
from pathlib import Path
from ddpm.errors import UserError
from ddpm.run.processes import gathered, rank, shared, together
from ddpm.run.stage import mistakes_in_one_line
{first}

def task(i):
    Path(f"done/{i}").write_text(str(os.getpid()))
    {act}
    return i

with mistakes_in_one_line("work"), together(2, 8):
    print(*gathered(os.getpid()), flush=True)
    print(shared([lambda i=i: task(i) for i in range(7)]), flush=True)
"""
OWN = [[0, 2, 4, 6], [1, 3, 5]]  # by process


def start(folder, act="pass", first=""):
    """Two processes that share seven tasks. `act` is a line of a task, `first` one of the script."""
    (folder / "done").mkdir()
    (folder / "work.py").write_text(SCRIPT.replace("{act}", act).replace("{first}", first))
    names = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    return subprocess.Popen(
        [sys.executable, "work.py"],
        cwd=folder,
        env=names | {"PYTHONPATH": str(REPO / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    """(status, lines of stdout, stderr) once all processes that shared the work have ended."""
    out, err = process.communicate(timeout=300)
    lines = out.splitlines()
    for pid in map(int, lines[0].split()) if lines else ():
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(timeout=120)
    return process.returncode, lines, err


def test_tasks_run_once_and_results_reach_all_processes(tmp_path):
    status, lines, err = end(start(tmp_path))
    assert (status, err) == (0, "")
    pids, results = lines
    assert results == "[0, 1, 2, 3, 4, 5, 6]"
    pids = pids.split()
    assert len({*pids}) == 2
    assert [[i for i in range(7) if (tmp_path / f"done/{i}").read_text() == pid] for pid in pids] == OWN


def test_killed_process_ends_work_with_one_line(tmp_path):
    status, _, err = end(start(tmp_path, "os.kill(os.getpid(), 9) if rank() else None"))
    assert status == 2
    assert err == "work: process 2 of 2 has ended (SIGKILL); run it again, with any number of processes\n"


def test_process_killed_after_its_last_task_is_reported(tmp_path):
    script = SCRIPT.replace("{act}", "pass").replace("{first}", "") + "    if rank(): os.kill(os.getpid(), 9)\n"
    (tmp_path / "done").mkdir()
    (tmp_path / "work.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(REPO / "src")}
    command = [sys.executable, "work.py"]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stderr == "work: process 2 of 2 has ended (SIGKILL); run it again, with any number of processes\n"


def test_error_in_another_process_is_reported(tmp_path):
    status, _, err = end(start(tmp_path, "raise_ = 1 / (rank() != 1 or i != 3)"))
    assert status == 2
    assert err == (
        "work: process 2 of 2 has ended (ZeroDivisionError: division by zero); "
        "run it again, with any number of processes\n"
    )


def test_process_that_fails_to_start_is_reported(tmp_path):
    status, lines, err = end(start(tmp_path, first="assert rank() != 1, 'no room'"))
    assert (status, lines) == (2, [])
    assert (
        err == "work: process 2 of 2 has ended (AssertionError: no room); run it again, with any number of processes\n"
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_first(tmp_path, number):
    process = start(tmp_path, "time.sleep(600 * (i != 0))")
    while not {*(tmp_path / "done").iterdir()} >= {tmp_path / f"done/{i}" for i in range(2)}:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    status, lines, _ = end(process)
    assert (status, len(lines)) == (-number, 1)


def test_processes_listen_on_loopback_only(tmp_path):
    process = start(tmp_path, "time.sleep(600 * (i != 0))")
    names = [tmp_path / f"done/{i}" for i in range(2)]
    while not all(name.exists() and name.read_text() for name in names):
        assert process.poll() is None
        time.sleep(0.05)
    listening = [
        {each.laddr.ip for each in psutil.Process(int(name.read_text())).net_connections() if each.status == "LISTEN"}
        for name in names
    ]
    process.kill()
    end(process)
    assert listening == [{"127.0.0.1"}] * 2


def test_nested_work_is_not_shared():
    def work():
        def task(i):
            return i, size(), shared([lambda: 10 * i, lambda: 10 * i + 1]), gathered(i)

        return shared([partial(task, i) for i in range(3)])

    expected = [(i, 1, [10 * i, 10 * i + 1], [i]) for i in range(3)]
    assert in_processes(2, work) == [expected] * 2
    assert work() == expected


def test_sharing_works_after_failed_task():
    def work():
        with suppress(ZeroDivisionError):
            shared([lambda: 1 / 0] * 2)
        return size(), shared([lambda: 1, lambda: 2, lambda: 3])

    assert in_processes(2, work) == [(2, [1, 2, 3])] * 2


def test_gathered_and_of_first_exchange_values():
    def work():
        tensors = gathered_tensors(torch.full((2,), float(rank())))
        return gathered(rank()), of_first(rank()), [tensor.tolist() for tensor in tensors]

    assert in_processes(3, work) == [([0, 1, 2], 0, [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])] * 3


def test_sharing_works_in_single_process():
    with together(1, 8):
        assert (rank(), size(), gathered(5), of_first(6), shared([lambda: 7])) == (0, 1, [5], 6, [7])
    with together(8, 1):  # only one has work
        assert size() == 1


def test_only_first_process_writes_and_shows_progress(tmp_path):
    def work():
        with atomic_path(tmp_path / "out.txt") as path:
            path.write_text(str(rank()))
        return path.parent == tmp_path, hidden()

    assert in_processes(3, work) == [(True, None), (False, True), (False, True)]
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.txt", "0")]


def test_together_rejects_too_many_torchrun_processes(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "9")
    message = "9 processes are too many; this stage's work can be shared by at most 4"
    with pytest.raises(UserError, match=message), together(1, 4):
        pass


def test_check_agreement_rejects_differing_processes():
    def work():
        check_agreement({"torch": "2", "seed": "0"} | ({"lr": "0.1"} if rank() < 2 else {"lr": "0.2"}))

    message = "UserError: process 3 differs from the first in lr; all need the same files and versions"
    assert in_processes(3, work) == [message] * 3
    assert in_processes(2, work) == [None] * 2


def test_check_agreement_names_what_only_the_first_process_has():
    message = "UserError: process 2 differs from the first in ddpm.a; all need the same files and versions"
    assert in_processes(2, lambda: check_agreement({} if rank() else {"ddpm.a": "0"})) == [message] * 2
