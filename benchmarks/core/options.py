"""Command lines: what they have in common."""

import argparse

from benchmarks.core.sharing import Sharing


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is a module's docstring."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def count(word: str) -> int:
    """An option that is a whole number above 0."""
    if (number := int(word)) < 1:
        raise argparse.ArgumentTypeError(f"{word}; give a whole number above 0")
    return number


def positive(word: str) -> float:
    """An option that is a number above 0."""
    if not 0 < (number := float(word)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{word}; give a number above 0")
    return number


def add_work(parser: argparse.ArgumentParser, jobs: int = 2) -> None:
    """Options of what runs experiments: how many at a time, by default `jobs`, and with whom they are shared."""
    parser.add_argument("-j", "--jobs", type=count, default=jobs, help="runs at a time, each on one core")
    shared = "a git remote through which clones share the runs (docs/sharing.md)"
    parser.add_argument("--remote", type=Sharing, help=shared)
