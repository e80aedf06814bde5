"""README and docs as text: fenced blocks, code spans, commands, tables and headings of each page."""

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import chdir
from functools import cache
from pathlib import Path

import pytest
from project import REPO

from ddpm.run.dvc import Declared, declared_stages

README, EXTENDING, CHANGELOG = (REPO / name for name in ("README.md", "docs/extending.md", "CHANGELOG.md"))
PAGES = sorted({*REPO.glob("*.md"), *REPO.glob("docs/**/*.md"), *REPO.glob("doors/*/README.md")})
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def name(page: Path) -> str:
    return page.relative_to(REPO).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=name)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [body for spoken, body in FENCE.findall(page.read_text()) if spoken == language]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def spans(page: Path) -> list[str]:
    """Code in the prose, except the first column of the changelog's table: names that are gone."""
    text = re.sub(r"^\| `[^|]*\|", "|", prose(page), flags=re.MULTILINE) if page == CHANGELOG else prose(page)
    return SPAN.findall(text)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command in blocks and prose, and of those inside $(...)."""
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    for line in lines + [code for code in spans(page) if re.match(r"(make|dvc|python|pytest) \S", code)]:
        for inner in re.findall(r"\$\((.*?)\)", line):
            yield shlex.split(inner)
        for command in re.sub(r"\$\(.*?\)", "", line).split("&&"):
            if words := shlex.split(command, comments=True):
                yield words


def tables(page: Path) -> Iterator[list[list[str]]]:
    """The rows of each table, head included, as cells."""
    for table in re.findall(r"(?:^\|.*\|\n)+", prose(page), re.MULTILINE):
        yield [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]


@cache
def slugs(page: Path) -> list[str]:
    """The anchors of the headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return found


@cache
def stages(pipeline: Path = REPO) -> Mapping[str, Declared]:
    """Stages of the main pipeline, or of a door."""
    with chdir(pipeline):
        return declared_stages()


def pipelines(page: Path) -> list[Path]:
    """The pipelines a page describes: the main one, and on a door's page the door."""
    return [REPO] if page.parent.parent != REPO / "doors" else [REPO, page.parent]
