"""`make torture`: kill the pipeline at random moments in every stage, run it again, and compare every hash.

A round is a fresh copy of the project at tiny settings: one `dvc repro` after the other is killed, each in the next
stage, and then one is left to finish. SIGKILL hits dvc and its stage at once (as when the power fails), the stage alone
(as when memory runs out), one of the processes that share its work, or dvc alone. Each start uses a different number of
processes, and the undisturbed run uses one.
"""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
from project import NOWHERE, REPO, STAGES, TINY, copy_project, write_params
from ruamel.yaml import YAML

SETTINGS = {  # long enough to be killed at work, and with a state to resume from
    "checkpoint_seconds": 0,
    "train_tiny": {**TINY["train_tiny"], "epochs": 20, "img_log_interval": 100},
    "train_unet": {**TINY["train_unet"], "epochs": 4, "micro_batches": 4},
    "train_classifier": {**TINY["train_classifier"], "epochs": 5, "batch_size": 16},
    "sample": {kind: {**TINY["sample"][kind], "batch_size": 16} for kind in ("tiny", "unet")},
    "paper": {**TINY["paper"], "batch_size": 16},
}


class Pipeline:
    """A copy of the project and its dvc."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder.with_suffix(".log")
        folder.mkdir()
        copy_project(folder)
        kept = REPO / ".data/fashion_mnist"
        path = {"path": str(kept) if kept.exists() else None}
        write_params(folder, TINY | SETTINGS | {"data": TINY["data"] | path})

    def start(self) -> subprocess.Popen:
        with self.log.open("w") as log:
            command = [sys.executable, "-m", "dvc", "repro"]
            return subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)

    def started(self) -> list[str]:
        """Stages that this dvc has started, in order."""
        return re.findall("Running stage '(.*)'", self.log.read_text())

    def hashes(self) -> dict[str, str]:
        stages = YAML(typ="safe").load(self.folder / "dvc.lock")["stages"]
        return {out["path"]: out["md5"] for stage in STAGES for out in stages[stage]["outs"]}

    def finish(self) -> dict[str, float]:
        """Run to the end, and return seconds by stage."""
        process, begun = self.start(), {}
        while process.poll() is None:
            for stage in self.started():
                begun.setdefault(stage, time.monotonic())
            time.sleep(0.05)
        if process.returncode:
            sys.exit(f"dvc repro failed:\n{self.log.read_text()}")
        times = [*begun.values(), time.monotonic()]
        return {stage: end - start for stage, start, end in zip(begun, times, times[1:], strict=False)}

    def kill(self, stage: str, delay: float, victim: str, processes: int) -> str:
        """Send SIGKILL `delay` seconds after the stage, or a later one if it is done, has started.

        Returns:
            The stage that was hit, or "" if there was nothing to kill.
        """
        write_params(self.folder, {"processes": processes})
        process, ahead = self.start(), set(STAGES[STAGES.index(stage) :])
        while process.poll() is None and not ahead & {*self.started()}:
            time.sleep(0.05)
        time.sleep(delay)
        if process.poll() is not None or not (below := psutil.Process(process.pid).children(recursive=True)):
            process.kill()
            process.wait()
            return ""
        if victim in ("both", "dvc"):
            process.kill()
        others = [child for child in below if is_another(child)]
        for child in {"dvc": [], "another": others[:1] or below}.get(victim, below):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.wait()
        _, alive = psutil.wait_procs(below, timeout=600)
        if alive:
            sys.exit(f"{stage}: still there ten minutes after its dvc was killed:\n{self.log.read_text()}")
        return self.started()[-1]


def is_another(process: psutil.Process) -> bool:
    """Whether it is a worker process of a stage."""
    with suppress(psutil.Error):
        return process.environ().get("RANK", "0") != "0"
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill the pipeline at random moments and compare every hash.")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments, victims, survived = random.Random(options.seed), Counter(), 0
    os.environ["MLFLOW_TRACKING_URI"] = NOWHERE  # unsent logs are not compared, and cost time
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as name:
        undisturbed = Pipeline(Path(name) / "undisturbed")
        seconds, expected = undisturbed.finish(), undisturbed.hashes()
        print("undisturbed:", ", ".join(f"{stage} {taken:.0f} s" for stage, taken in seconds.items()), flush=True)
        while survived < options.kills:
            torn, kills, resumed = Pipeline(Path(name) / "torn"), 0, 0
            for stage in STAGES[: options.kills - survived]:
                victim = moments.choice(["both", "stage", "another", "dvc"])
                delay = moments.uniform(0, seconds[stage])
                if hit := torn.kill(stage, delay, victim, moments.choice([1, 2, 3, 4])):
                    kills += 1
                    victims[victim] += 1
                    print(f"  {time.strftime('%H:%M:%S')} {hit}: {victim} killed", flush=True)
                resumed += torn.log.read_text().count(": resumes after ")
            torn.finish()
            resumed += torn.log.read_text().count(": resumes after ")
            differ = [path for path, md5 in torn.hashes().items() if expected[path] != md5]
            if differ or list((torn.folder / ".resume").iterdir()):
                sys.exit(f"hashes differ after {kills} kills: {differ or 'none, but a state is left'}")
            survived += kills
            print(f"{survived} kills survived, all {len(expected)} hashes equal, {resumed} resumptions", flush=True)
            shutil.rmtree(torn.folder)
    print(f"killed: {dict(victims)}")


if __name__ == "__main__":
    main()
