"""The environment that the Makefile sets for its commands."""

import os
import subprocess

from project import REPO


def test_make_unsets_pythondontwritebytecode():
    asked = "asked: ; @python3 -c 'import sys; print(sys.dont_write_bytecode)'"
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    make = ["make", "--no-print-directory", "--eval", asked, "asked"]
    said = subprocess.run(make, cwd=REPO, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.split()[-1] == "False"
