"""A folder is a registry: listing it imports nothing, and using an entry imports that one."""

import importlib
import re
import sys

import pytest
from project import REPO

from ddpm.errors import UserError
from ddpm.registry import Registry
from ddpm.run.params import NoOptions, Section

# (module, name) of each registry of the package
REGISTRIES = [
    (".".join(path.relative_to(REPO / "src").with_suffix("").parts), name)
    for path in sorted(REPO.glob("src/**/*.py"))
    for name in re.findall(r"^(\w+)\b.* = Registry\(", path.read_text(), re.MULTILINE)
]


@pytest.fixture
def kinds(tmp_path, monkeypatch):
    """A registry of a folder: two entries, a file that registers nothing, one that fails, and a package."""
    folder = tmp_path / "made_up_kinds"
    (folder / "sub").mkdir(parents=True)
    register = "from registry_of_kinds import KINDS\nKINDS.register(__name__, {})\n"
    files = {
        "__init__.py": "",
        "b.py": register.format("'the b'"),
        "a.py": register.format("'the a'"),
        "silent.py": "",
        "broken.py": "raise RuntimeError('imported')\n",
        "sub/__init__.py": "",
        "notes.txt": "",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    (tmp_path / "registry_of_kinds.py").write_text(
        "from ddpm.registry import Registry\nKINDS = Registry('made_up_kinds', 'kind')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield importlib.import_module("registry_of_kinds").KINDS
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_listing_names_imports_no_entries(kinds):
    assert list(kinds) == ["a", "b", "broken", "silent"]
    assert len(kinds) == 4
    assert "a" in kinds
    assert "sub" not in kinds
    assert kinds.checked("broken") == "broken"
    assert kinds.module("broken") == "made_up_kinds.broken"
    assert not [name for name in sys.modules if name.startswith("made_up_kinds.")]


def test_entry_is_imported_on_first_use(kinds):
    assert kinds["b"] == "the b"
    assert "made_up_kinds.a" not in sys.modules
    with pytest.raises(RuntimeError, match="imported"):
        _ = kinds["broken"]


def test_unknown_name_error_lists_allowed_names(kinds):
    with pytest.raises(ValueError, match="'c' is not a kind; allowed: a, b, broken, silent"):
        kinds.checked("c")
    with pytest.raises(UserError, match="'c' is not a kind; allowed: a, b"):
        _ = kinds["c"]


def test_file_that_registers_nothing_is_rejected(kinds):
    with pytest.raises(UserError, match=r"made_up_kinds/silent\.py does not register a kind"):
        _ = kinds["silent"]


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry[1])
def test_every_registry_file_registers_an_entry(registry):
    module, name = registry
    entries: Registry = getattr(importlib.import_module(module), name)
    assert len(entries) > 0
    for entry in entries:
        assert issubclass(getattr(entries[entry], "Options", NoOptions), Section)
