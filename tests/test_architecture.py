"""The shape of the house: what importing costs, and who may start what."""

import subprocess
import sys

from project import REPO


def loaded_by(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*(m for m in sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


def test_importing_the_package_imports_nothing_else():
    assert {m for m in loaded_by("import ddpm") if m.startswith("ddpm.")} == set()
    assert "torch" not in loaded_by("import ddpm")


def test_the_maths_imports_the_maths():
    modules = loaded_by("import ddpm.diffusion.forward")
    ours = {m for m in modules if m.startswith("ddpm.")}
    assert ours == {"ddpm.diffusion", "ddpm.diffusion.forward", "ddpm.diffusion.schedule"}
    assert not modules & {"mlflow", "matplotlib", "pandas", "torchvision"}


def test_mlflow_is_imported_only_when_a_run_starts():
    assert "mlflow" not in loaded_by("import ddpm.run.tracking.record, ddpm.training.loop, ddpm.run.stage")


def test_files_are_short_enough_to_read():
    lengths = {path.name: len(path.read_text().splitlines()) for path in REPO.glob("src/**/*.py")}
    assert {name: n for name, n in lengths.items() if n > 350} == {}
