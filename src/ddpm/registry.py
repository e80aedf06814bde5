"""Registries: a folder of files, one entry a file. An entry's name is its file's name.

A name can be checked and listed without importing anything; an entry is imported when it is first used. So a new file
is all that a new entry needs, and a stage depends on the entries that its params choose, not on the others.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeVar

from ddpm.errors import UserError

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry]):
    """The entries in the files of one folder, by name.

    Args:
        package: The folder, as a package name such as "ddpm.sampling.samplers".
        what: What an entry is called in messages, such as "sampler".
    """

    def __init__(self, package: str, what: str) -> None:
        self.package, self.what = package, what
        self._entries: dict[str, Entry] = {}

    def register(self, module: str, entry: Entry) -> Entry:
        """Make `entry` the one of the file `module` (its `__name__`); return it unchanged."""
        self._entries[module.rpartition(".")[2]] = entry
        return entry

    def checked(self, name: str) -> str:
        """Return `name`.

        Raises:
            ValueError: There is no such entry; the message lists those there are.
        """
        if name not in self:
            raise ValueError(f"{name!r} is no {self.what}; allowed: {', '.join(self)}")
        return name

    def module(self, name: str) -> str:
        """The module that holds the entry `name`."""
        return f"{self.package}.{name}"

    def __getitem__(self, name: str) -> Entry:
        try:
            module = self.module(self.checked(name))
        except ValueError as error:
            raise UserError(str(error)) from None
        import_module(module)
        if name not in self._entries:
            raise UserError(f"{module.replace('.', '/')}.py registers no {self.what}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        folder = import_module(self.package).__path__
        return iter(sorted(module.name for module in iter_modules(folder) if not module.ispkg))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in list(iter(self))
