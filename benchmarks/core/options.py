"""Shared command-line options."""

import argparse

from benchmarks.core.sharing import Sharing


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as its help."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def count(word: str) -> int:
    """Parse an integer above 0."""
    if (number := int(word)) < 1:
        raise argparse.ArgumentTypeError(f"{word}; give a whole number above 0")
    return number


def positive(word: str) -> float:
    """Parse a number above 0."""
    if not 0 < (number := float(word)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{word}; give a number above 0")
    return number


def add_work(parser: argparse.ArgumentParser, jobs: int = 2) -> None:
    """Add the options for running experiments: how many at a time, and which remote shares them."""
    parser.add_argument("-j", "--jobs", type=count, default=jobs, help="number of runs at a time; they share the cores")
    shared = "a git remote through which clones share the runs (docs/sharing.md)"
    parser.add_argument("--remote", type=Sharing, help=shared)
