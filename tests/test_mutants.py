"""`make mutants` takes most of an hour, so this only tests that each mutant applies to the current code."""

from mutants.mutate import REPO, load


def test_mutants_load_and_name_existing_test_files():
    found = list(load())
    assert len(found) > 500
    for mutant in found:
        missing = [
            word for word in mutant.tests.split() if "tests/" in word and not (REPO / word.split("::")[0]).exists()
        ]
        assert missing == [], mutant.what
