"""docs/compose.yaml, as far as it can be read without Docker: options that MLflow has, and versions that are tested."""

import re
from importlib.util import find_spec
from pathlib import Path

from project import REPO

from ddpm.run.yaml import load_yaml

COMPOSE = load_yaml(REPO / "docs/compose.yaml")["services"]


def test_the_server_is_told_what_it_listens_to():
    mlflow = Path(find_spec("mlflow").origin).parent  # whose import takes seconds
    options = (mlflow / "cli/__init__.py").read_text() + (mlflow / "utils/cli_args.py").read_text()
    known = {*re.findall(r'envvar="(\w+)"', options), "MLFLOW_S3_ENDPOINT_URL", "MLFLOW_DISABLE_TELEMETRY"}
    given = {name for name in COMPOSE["mlflow"]["environment"] if name.startswith("MLFLOW_")}
    assert {"MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_SERVER_ALLOWED_HOSTS"} <= given <= known


def test_versions_are_those_that_the_project_runs_on_and_is_tested_with():
    pins = (REPO / "requirements.txt").read_text() + (REPO / "tests/services.txt").read_text()
    installed = re.findall(r"[\w-]+==[\w.]+", COMPOSE["mlflow"]["command"])
    assert len(installed) == 3
    assert all(re.search(rf"^{re.escape(pin)}\b", pins, re.MULTILINE) for pin in installed)


def test_no_credential_stands_in_the_file():
    for service in COMPOSE.values():
        for name, value in service["environment"].items():
            if re.search("PASSWORD|KEY", name):
                assert re.fullmatch(r"\$\{\w+(:\?[^}]*)?\}", value), name
