"""Clones that share experiments through a git remote, with a bare repository and killed processes."""

import subprocess
import time
from collections import Counter
from contextlib import chdir
from multiprocessing import get_context
from random import Random

import pytest
from sharer import work

from benchmarks.core import sharing
from benchmarks.core.ledger import Ledger
from benchmarks.core.sharing import Sharing
from ddpm.errors import UserError

FORKS = get_context("forkserver")  # clones are forked from one process, since imports take seconds
FORKS.set_forkserver_preload(["sharer"])


def git(*words):
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def clones(tmp_path):
    """Clones of a bare repository."""
    names = "one", "two", "three", "four"
    git("init", "--quiet", "--bare", str(tmp_path / "remote"))
    for name in names:
        git("clone", "--quiet", str(tmp_path / "remote"), str(tmp_path / name))
    return [tmp_path / name for name in names]


@pytest.mark.parametrize(("n_clones", "n", "kills"), [(3, 9, 4), pytest.param(4, 48, 20, marks=pytest.mark.torture)])
def test_each_experiment_counts_once_when_clones_are_killed(clones, n_clones, n, kills):
    clones = clones[:n_clones]
    started = {clone: FORKS.Process(target=work, args=(clone, n)) for clone in clones}
    for process in started.values():
        process.start()
    moments = Random(0)
    for clone in (clones * kills)[:kills]:
        time.sleep(0.4 + moments.random())
        started[clone].kill()
        started[clone].join()
        started[clone] = FORKS.Process(target=work, args=(clone, n))
        started[clone].start()
    for process in started.values():
        process.join(120)
        assert process.exitcode == 0
    rows = [Ledger(clone / "rows.csv", ("lead", "seed")).rows() for clone in clones]
    for mine in rows:
        assert sorted(int(row["seed"]) for row in mine) == list(range(n))
        assert {row["seed"]: row["fid"] for row in mine} == {row["seed"]: row["fid"] for row in rows[0]}
    refs = [line.split("\t")[1] for line in git("ls-remote", str(clones[0].parent / "remote")).splitlines()]
    assert Counter(ref.split("/")[1] for ref in refs) == {"rows": n}  # no lease is left
    ran = [line.split() for line in (clones[0].parent / "ran").read_text().splitlines()]
    assert len({name for _, name in ran}) == n
    assert len(ran) <= n + kills  # only those killed between their end and their row ran again
    assert len({clone for clone, _ in ran}) == n_clones


def test_lease_is_exclusive_and_rows_are_shared(clones):
    with chdir(clones[0]):
        one = Sharing("origin")
        with one.lease("x") as mine:
            assert mine
            with chdir(clones[1]):
                two = Sharing("origin")
                for name, free in (("x", False), ("y", True)):
                    with two.lease(name) as other:
                        assert other == free
                assert list(two.rows(["x", "y"])) == []
            one.add("x", {"failure": "", "fid": 0.1 + 0.2})
    with chdir(clones[1]):
        assert list(two.rows(["y", "x"])) == [("x", {"failure": "", "fid": 0.1 + 0.2})]  # to the last digit
        with two.lease("x") as again:
            assert not again


def test_lease_is_renewed_and_expires_when_its_clone_hangs(clones):
    with chdir(clones[0]):
        one, two = Sharing("origin", renew=0.05, dead=1.0), Sharing("origin", dead=1.0)
        with one.lease("x"):
            for _ in range(8):  # longer than the wait for a dead clone
                with two.lease("x") as taken:
                    assert not taken
                time.sleep(0.2)
            # It hangs: nothing is renewed any more. The other takes over, and the first one's row is too late.
            one._changing.acquire()
            with two.lease("x") as taken:
                assert not taken
            time.sleep(1.1)
            with two.lease("x") as taken:
                assert taken
                one._changing.release()
                one.add("x", {"failure": "late"})
                assert list(two.rows(["x"])) == []
                two.add("x", {"failure": ""})
        assert dict(one.rows(["x"])) == {"x": {"failure": ""}}


@pytest.mark.parametrize("remote", ["nowhere", "refuses"])
def test_missing_or_rejecting_remote_is_reported_in_one_line(clones, remote, monkeypatch):
    monkeypatch.setattr(sharing, "PAUSES", (0.0, 0.0))
    hook = clones[0].parent / "remote/hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho only members may push >&2; exit 1\n")
    hook.chmod(0o755)
    name = "nowhere" if remote == "nowhere" else "origin"
    with chdir(clones[0]), pytest.raises(UserError, match=rf"^--remote is '{name}': .*; give a remote") as said:
        Sharing(name).lease("x").__enter__()
    assert ("only members may push" in str(said.value)) == (remote == "refuses")
    assert "\n" not in str(said.value)


def test_error_hides_password_in_remote_url(clones):
    with chdir(clones[0]), pytest.raises(UserError) as said:
        Sharing("https://me:secret@127.0.0.1:9/x")
    assert "secret" not in str(said.value)


def test_git_commands_time_out_and_never_prompt(clones, tmp_path, monkeypatch):
    fake = tmp_path / "bin/git"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "prompt $GIT_TERMINAL_PROMPT" >&2\nexec sleep 60\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=":")
    monkeypatch.setattr(sharing, "GIT_SECONDS", 0.5)
    with chdir(clones[0]), pytest.raises(UserError, match=r"'origin': git has not answered for 0\.5 seconds; give"):
        Sharing("origin")
    fake.write_text('#!/bin/sh\necho "prompt $GIT_TERMINAL_PROMPT" >&2\nexit 1\n')
    with chdir(clones[0]), pytest.raises(UserError, match="'origin': prompt 0; give"):
        Sharing("origin")
