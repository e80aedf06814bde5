"""Command lines: what they have in common."""

import argparse


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
