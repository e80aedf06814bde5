"""The digest of code changes with its behaviour, not with its wording."""

import ast
from pathlib import Path

import pytest
from project import REPO

from ddpm.run.plan import NEUTRAL, code_digests, current_digests, digest, imports, is_neutral

CODE = '''"""A module."""

import logging
from math import sqrt, tau
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm.errors import UserError

if TYPE_CHECKING:
    from ddpm.data import order

logger = logging.getLogger(__name__)
LR: float = 1e-3


class Config:
    """A config."""

    width: int = 3


def step(x: Tensor, n: int = 2) -> Tensor:
    """One step."""
    total: float = 0.0
    for i in tqdm(range(n), "steps", disable=None):
        # Halve it.
        total += sqrt(i) / 2
        logger.info("step %d", i)
        log.log_metrics({"total": total}, i)
    if total < 0:
        raise UserError(f"total is {total}; it must not be negative")
    assert n > 0, "n"
    return torch.full_like(x, total)
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another\ntext."""'),
        ('    """One step."""\n', ""),
        ('    """A config."""\n', "    # Nothing.\n"),
        ("# Halve it.", "# Divide it by two."),
        ("import logging\nfrom math import sqrt, tau", "from math import sqrt\nimport logging"),
        ("from torch import Tensor", "from jaxtyping import Float as Tensor"),
        ("    from ddpm.data import order\n", "    from ddpm.data import dataset\n"),
        ("x: Tensor, n: int = 2) -> Tensor", "x, n=2)"),
        ("LR: float = 1e-3", "LR = 0.001"),
        ("total: float = 0.0", "total = 0.0"),
        ('"steps", disable=None', '"training", leave=False'),
        ('logger.info("step %d", i)', 'logger.warning("after step %d", i)\n        print(i)'),
        ('log.log_metrics({"total": total}, i)', 'stage.log.log_metrics({"sum": total, "i": i}, i)'),
        ("it must not be negative", "which is negative"),
        ('UserError(f"total is {total}; it must not be negative")', 'UserError("negative") from error'),
        ('assert n > 0, "n"', "assert n > 0"),
        ("sqrt(i) / 2", "(sqrt(i)\n            / 2)"),
    ],
)
def test_digest_ignores_changes_without_effect(old, new):
    assert old in CODE
    assert digest(CODE.replace(old, new)) == digest(CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/ 2", "/ 2.0"),
        ("n: int = 2", "n: int = 3"),
        ("1e-3", "2e-3"),
        ("width: int = 3", "width: float = 3"),
        ("width: int = 3", "height: int = 3"),
        ("from math import sqrt", "from cmath import sqrt"),
        ("from math import sqrt", "from math import cbrt as sqrt"),
        ("total < 0", "total <= 0"),
        ("raise UserError", "raise ValueError"),
        ("assert n > 0", "assert n > 1"),
        ("range(n)", "range(n + 1)"),
        ("    return torch.full_like(x, total)", "    x.add_(total)\n    return torch.full_like(x, total)"),
        ('logger.info("step %d", i)', "total.update(i)"),
        ('logger.info("step %d", i)', "printer.add(i)"),
        ('log.log_metrics({"total": total}, i)', 'log.log_metrics.add({"total": total})'),
        ("total += sqrt(i)", "total -= sqrt(i)"),
        ("total += sqrt(i)", "total = sqrt(i)"),
    ],
)
def test_digest_reflects_changes_of_code(old, new):
    assert old in CODE
    assert digest(CODE.replace(old, new)) != digest(CODE)


def test_digest_ignores_empty_ast_fields_of_newer_python(monkeypatch):
    """Such as `type_params` of functions and classes since Python 3.12."""
    expected = digest(CODE)
    digest.cache_clear()
    monkeypatch.setattr(ast.FunctionDef, "_fields", (*ast.FunctionDef._fields, "type_params"))
    monkeypatch.setattr(ast.FunctionDef, "type_params", [], raising=False)
    assert digest(CODE) == expected
    digest.cache_clear()


def test_digest_distinguishes_similar_literals():
    bodies = ["None", "[]", "()", "0", "False", "0.0", "-0.0", "''", "b''", "...", "{}", "1", "True"]
    assert len({digest(f"x = {body}") for body in bodies}) == len(bodies)


def test_imports_include_nested_but_not_type_checking_ones():
    code = CODE + "\n\ndef late():\n    import ddpm.run.files\n    from ddpm.run import seeding\n"
    found = {name for name in imports(code) if name.startswith("ddpm")}
    assert found == {"ddpm.errors", "ddpm.errors.UserError", "ddpm.run.files", "ddpm.run", "ddpm.run.seeding"}


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A small project: a script, what it imports, a registry entry and a neutral module."""
    files = {
        "stages/train.py": "from ddpm.a import f\nfrom ddpm.run.stage import run\n",
        "src/ddpm/a.py": "from ddpm import b\n",
        "src/ddpm/b.py": "B = 1\n",
        "src/ddpm/unused.py": "from ddpm import a\n",
        "src/ddpm/kinds/one.py": "from ddpm.deep import d\n",
        "src/ddpm/kinds/two.py": "TWO = 2\n",
        "src/ddpm/deep.py": "d = 1\n",
        "src/ddpm/run/stage.py": "from ddpm.run import hidden\n",
        "src/ddpm/run/hidden.py": "H = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("source")
def test_code_digests_cover_script_imports_and_used_entries():
    script = Path("stages/train.py")
    assert set(code_digests(script)) == {"stages/train.py", "ddpm.a", "ddpm.b"}
    found = code_digests(script, ["ddpm.kinds.one"])
    assert set(found) == {"stages/train.py", "ddpm.a", "ddpm.b", "ddpm.kinds.one", "ddpm.deep"}
    assert found["ddpm.b"] == digest("B = 1")


def test_current_digests_reflect_current_code(source):
    script, plan = Path("stages/train.py"), source / "plan/train.json"
    assert current_digests("train", script) == code_digests(script)
    plan.parent.mkdir()
    plan.write_text('{"stages/train.py": "0", "ddpm.a": "0", "ddpm.kinds.one": "0", "ddpm.gone": "0"}')
    assert current_digests("train", script) == code_digests(script, ["ddpm.kinds.one"])
    (source / "src/ddpm/deep.py").write_text("d = 2\n")
    assert current_digests("train", script)["ddpm.deep"] == digest("d = 2")


def test_neutral_modules_exist_and_are_recognised():
    for name in NEUTRAL:
        assert (REPO / "src" / name.replace(".", "/")).is_dir() or (REPO / f"src/{name.replace('.', '/')}.py").is_file()
    assert is_neutral("ddpm")
    assert is_neutral("ddpm.run.tracking.store")
    assert not is_neutral("ddpm.images")
    assert not is_neutral("ddpm.run.seeding")
    assert not is_neutral("ddpm.run.trackings")
