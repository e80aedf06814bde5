"""Registries: a folder is a registry, and each file in it is an entry with the file's name.

Names are listed and checked without importing the files. An entry is imported when it is first used. So a new entry
needs only one new file, and a stage depends only on the entries that its params choose.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeVar

from ddpm.errors import UserError

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry]):
    """The entries in the files of one folder, by name, in alphabetical order."""

    def __init__(self, package: str, what: str) -> None:
        """Create the registry, without importing anything yet.

        Args:
            package: The folder as a package, such as "ddpm.sampling.samplers".
            what: What an entry is called in messages, such as "sampler".
        """
        self.package, self.what = package, what
        self._entries: dict[str, Entry] = {}

    def register(self, module: str, entry: Entry) -> Entry:
        """Register `entry` as the entry of a file.

        Args:
            module: The file's `__name__`.
            entry: The entry, returned unchanged.
        """
        self._entries[module.rpartition(".")[2]] = entry
        return entry

    def checked(self, name: str) -> str:
        """Return `name` if it is the name of an entry, as a pydantic validator.

        Raises:
            ValueError: There is no such entry. The message lists the existing ones.
        """
        if name not in self:
            raise ValueError(f"{name!r} is not a {self.what}; allowed: {', '.join(self)}")
        return name

    def module(self, name: str) -> str:
        """The module that holds the entry `name`."""
        return f"{self.package}.{name}"

    def __getitem__(self, name: str) -> Entry:
        """Import and return an entry.

        Raises:
            UserError: There is no such entry, or its file does not register it.
        """
        try:
            module = self.module(self.checked(name))
        except ValueError as error:
            raise UserError(str(error)) from None
        import_module(module)
        if name not in self._entries:
            raise UserError(f"{module.replace('.', '/')}.py does not register a {self.what}")
        return self._entries[name]

    @cached_property
    def _names(self) -> tuple[str, ...]:
        folder = import_module(self.package).__path__
        return tuple(sorted(module.name for module in iter_modules(folder) if not module.ispkg))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names
