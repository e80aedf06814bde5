"""Which code determines the result of a stage: `plan/STAGE.json`, the stage's only dependency on code in DVC.

The first stage, `check`, writes these files. Each lists the stage's script, the modules that it imports, directly or
indirectly, and those of the registry entries that its params choose, with a digest of each. The digest covers what the
code does. It ignores

- docstrings, comments, layout and the order of imports,
- annotations of arguments, results and variables, but not of a class's fields,
- messages: of errors, `print`, logging and progress bars, and what is logged to MLflow.

Modules in NEUTRAL are ignored entirely. tests/run/test_neutral.py checks that they cannot change a result.
"""

import ast
import hashlib
import json
import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ddpm.run.root import checkout

PLAN = Path("plan")
# The code that runs a stage: it passes params, seed and device on unchanged, and saves and logs the stage's results.
NEUTRAL = (
    "ddpm",
    "ddpm.errors",
    "ddpm.registry",
    "ddpm.run.baseline",
    "ddpm.run.experiment",
    "ddpm.run.invocation",
    "ddpm.run.params",
    "ddpm.run.plan",
    "ddpm.run.processes",
    "ddpm.run.progress",
    "ddpm.run.resume",
    "ddpm.run.root",
    "ddpm.run.stage",
    "ddpm.run.tracking",
    "ddpm.run.yaml",
)
SAYS = re.compile(
    r"print|warnings\.warn|logger\.(debug|info|warning|error)|(\w+\.)?log\.(log_\w+|set_tags|summarize)|progress\.(update|set_postfix)"
)


def plan_path(stage: str) -> Path:
    """The file that lists the code that determines the result of `stage`."""
    return PLAN / f"{stage}.json"


def source_folder() -> Path:
    """The folder of the package's code, relative to the working folder."""
    return Path(os.path.relpath(checkout() / "src"))


def code_digests(script: Path, chosen: Iterable[str] = ()) -> dict[str, str]:
    """Find the code that determines the result of a stage.

    Args:
        script: The stage's script.
        chosen: Modules of the registry entries that it uses, which it imports by name.

    Returns:
        The digest of the script, by its path, and of each module, by its name.
    """
    found, waiting = {script.as_posix(): script.read_text()}, [*chosen, *imports(script.read_text())]
    source = source_folder()
    while waiting:
        name = waiting.pop()
        path = source / f"{name.replace('.', '/')}.py"
        if name not in found and not is_neutral(name) and path.is_file():
            found[name] = path.read_text()
            waiting += imports(found[name])
    return {name: digest(found[name]) for name in sorted(found)}


def current_digests(stage: str, script: Path) -> dict[str, str]:
    """`code_digests` of a running stage, whose plan may be missing or outdated if it was started by hand."""
    plan = plan_path(stage)
    return code_digests(script, json.loads(plan.read_text()) if plan.is_file() else ())


def is_neutral(module: str) -> bool:
    """Whether a module cannot change a result: it is in NEUTRAL, or in a package in NEUTRAL other than `ddpm`."""
    return any(module == name or (name != "ddpm" and module.startswith(f"{name}.")) for name in NEUTRAL)


@cache
def imports(source: str) -> frozenset[str]:
    """Names of the modules and objects that Python source may import, except under TYPE_CHECKING."""
    tree = _without_words(source)
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


@cache
def digest(source: str) -> str:
    """A digest of what Python source does, the same for every version of Python."""
    tree = _without_words(source)
    taken = {line for line in ast.walk(tree) if isinstance(line, ast.Import | ast.ImportFrom)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    origins = sorted(
        f"{name}={getattr(line, 'module', '')}.{alias.name}"
        for line in taken
        for alias in line.names
        if (name := alias.asname or alias.name.partition(".")[0]) in used
    )
    return hashlib.sha256(repr((origins, _plain(tree))).encode()).hexdigest()[:16]


def _without_words(source: str) -> ast.AST:
    tree: ast.AST = _WithoutWords().visit(ast.parse(source))
    return tree


def _plain(node: Any) -> Any:
    """A syntax tree as tuples, without imports and empty fields, which differ between versions of Python."""
    if isinstance(node, list):
        return [_plain(item) for item in node if not isinstance(item, ast.Import | ast.ImportFrom)]
    if not isinstance(node, ast.AST):
        return node
    fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []) and name != "ctx")
    return type(node).__name__, [(name, _plain(value)) for name, value in fields]


class _WithoutWords(ast.NodeTransformer):
    """Removes what a digest ignores, except imports."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        is_for_type_checkers = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if is_for_type_checkers else self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        is_said = isinstance(node.value, ast.Call) and SAYS.fullmatch(ast.unparse(node.value.func))
        return None if is_said or isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return self.generic_visit(ast.Assert(node.test))

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        node.cause = None
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name.endswith("Error") or name == "tqdm":
            node = ast.Call(node.func, node.args[: name == "tqdm"], [])
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        body = (line if isinstance(line, ast.AnnAssign) else self.visit(line) for line in node.body)
        node.body = [line for line in body if line is not None]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        return self.generic_visit(ast.Assign([node.target], node.value)) if node.value else None
