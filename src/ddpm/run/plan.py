"""Which code decides the result of a stage: `plan/STAGE.json`, the one dependency on code that the stage has in DVC.

The first stage, `check`, writes these files. Each lists the modules that a stage imports, and those of the registry
entries that its params choose, with a digest of each. A digest is of what the code does: comments, docstrings, layout,
type annotations, the words of errors and log messages do not count. Modules in NEUTRAL do not count at all; that they
cannot change a result is held by tests/run/test_neutral.py.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

PLAN = Path("plan")
SOURCE = Path("src")
# Tracking, resuming and reading params: what they do around a computation, not what it computes.
NEUTRAL = (
    "ddpm",
    "ddpm.errors",
    "ddpm.registry",
    "ddpm.run.params",
    "ddpm.run.plan",
    "ddpm.run.resume",
    "ddpm.run.stage",
    "ddpm.run.tracking",
    "ddpm.run.yaml",
)
LOGGERS = {"logging", "logger", "log"}


def plan_path(stage: str) -> Path:
    """The file that says which code decides the result of `stage`."""
    return PLAN / f"{stage}.json"


def code_digests(script: Path, chosen: Iterable[str] = ()) -> dict[str, str]:
    """The digest of each module that decides the result of a stage, by name.

    Args:
        script: The stage's script, which counts too.
        chosen: Modules of the registry entries that its params choose.
    """
    modules = set(chosen)
    waiting = [script, *filter(None, map(_file, modules))]
    while waiting:
        for name in _imports(waiting.pop()):
            if name not in modules and (path := _file(name)):
                modules.add(name)
                waiting.append(path)
    deciding = sorted(name for name in modules if not is_neutral(name))
    files = {name: path for name in deciding if (path := _file(name))}
    return {name: digest(path.read_text()) for name, path in {script.as_posix(): script, **files}.items()}


def is_neutral(module: str) -> bool:
    """Whether a module cannot change a result: it is one of NEUTRAL, or in a package that is, `ddpm` itself aside."""
    return any(module == name or (name != "ddpm" and module.startswith(f"{name}.")) for name in NEUTRAL)


def digest(source: str) -> str:
    """A digest of what Python source does."""
    return hashlib.sha256(ast.unparse(_WithoutWords().visit(ast.parse(source))).encode()).hexdigest()[:16]


class _WithoutWords(ast.NodeTransformer):
    """Takes out docstrings, annotations, the arguments of raised exceptions, and calls that log or print."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _only_words(line)] or [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc = ast.Call(node.exc.func, [], [])
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


def _only_words(line: ast.stmt) -> bool:
    """Whether a statement is a docstring, or a call that only tells somebody something."""
    if not isinstance(line, ast.Expr):
        return False
    if isinstance(line.value, ast.Constant):
        return True
    if not isinstance(line.value, ast.Call):
        return False
    function = line.value.func
    if isinstance(function, ast.Attribute):
        return isinstance(function.value, ast.Name) and function.value.id in LOGGERS
    return isinstance(function, ast.Name) and function.id == "print"


def _imports(path: Path) -> Iterator[str]:
    """The names of this project's modules that a file imports, anywhere in it but for type checkers."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        waiting += ast.iter_child_nodes(node)


def _file(module: str) -> Path | None:
    """The source file of a module of this project; None for a package, for other names, and for other projects'."""
    path = SOURCE / f"{module.replace('.', '/')}.py"
    return path if module.startswith("ddpm.") and path.is_file() else None
