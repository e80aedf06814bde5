"""docs/compose.yaml, checked without Docker: MLflow has the options, and the versions are those tested."""

import re
from importlib.util import find_spec
from pathlib import Path

from project import REPO

from ddpm.run.yaml import load_yaml

COMPOSE = load_yaml(REPO / "docs/compose.yaml")["services"]


def test_mlflow_environment_variables_are_known():
    mlflow = Path(find_spec("mlflow").origin).parent  # importing it takes seconds
    options = (mlflow / "cli/__init__.py").read_text() + (mlflow / "utils/cli_args.py").read_text()
    known = {*re.findall(r'envvar="(\w+)"', options), "MLFLOW_S3_ENDPOINT_URL", "MLFLOW_DISABLE_TELEMETRY"}
    given = {name for name in COMPOSE["mlflow"]["environment"] if name.startswith("MLFLOW_")}
    assert {"MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_SERVER_ALLOWED_HOSTS"} <= given <= known


def test_installed_versions_match_the_pins():
    pins = (REPO / "requirements.txt").read_text() + (REPO / "tests/services.txt").read_text()
    installed = re.findall(r"[\w-]+==[\w.]+", COMPOSE["mlflow"]["command"])
    assert len(installed) == 3
    assert all(re.search(rf"^{re.escape(pin)}\b", pins, re.MULTILINE) for pin in installed)


def test_credentials_come_from_the_environment():
    for service in COMPOSE.values():
        for name, value in service["environment"].items():
            if re.search("PASSWORD|KEY", name):
                assert re.fullmatch(r"\$\{\w+(:\?[^}]*)?\}", value), name
