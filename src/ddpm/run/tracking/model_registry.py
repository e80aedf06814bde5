"""Trained networks as MLflow models: a version in the model registry for each run, and an alias for the best one."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

CHAMPION = "champion"
PACKAGE = Path(__file__).parents[2]  # a copy of it goes with the model
CODE = Path(__file__).with_name("served.py")
NEEDS = (  # imported by the package for sampling, and installed where the model is served
    *("annotated-types", "einops", "jaxtyping", "lazy-loader", "mlflow", "numpy", "pydantic", "PyYAML", "safetensors"),
    *("torch", "tqdm"),
)
PARAMS = {
    "sampler": "string",
    "n_steps": "long",
    "spacing": "string",
    "clip_sample": "boolean",
    "guidance_scale": "double",
}


def register(client: "MlflowClient", run_id: str, path: Path, about: Mapping[str, Any]) -> None:
    """Log a network as a model of a run, and as a version in the registry, unless they exist.

    Args:
        client: The store's client.
        run_id: The run.
        path: The network, a safetensors file.
        about: A dict with "name" (in the registry, after the experiment's name), "img_shape" (c, h, w), "settings"
            (sampling defaults for PARAMS, and the sampler's "options"), "metrics", "time" (when they were measured, in
            milliseconds), "headline" (the metric that is lowest for the champion) and "judged_by" (what else the
            metrics depend on, as strings).
    """
    experiment = client.get_experiment(client.get_run(run_id).info.experiment_id)
    model = _logged_model(client, str(experiment.experiment_id), run_id, path, about)
    name = f"{experiment.name}-{about['name']}"
    found = client.search_model_versions(f"name='{name}' and run_id='{run_id}'") or [
        _new_version(client, name, model, run_id, about)
    ]
    _crown(client, name, found[0].version, about)


def _logged_model(
    client: "MlflowClient", experiment_id: str, run_id: str, path: Path, about: Mapping[str, Any]
) -> "LoggedModel":
    """The model of a run, created unless a complete one exists."""
    from mlflow import pyfunc
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
    from mlflow.models import Model

    found = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}' AND name = '{about['name']}'")
    for model in found:
        if model.status == LoggedModelStatus.READY:
            return model
    model = client.create_logged_model(experiment_id, about["name"], run_id, model_type="sampler")
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about type hints, and an example, which would run the model
        pyfunc.save_model(
            f"{folder}/model",
            mlflow_model=Model(model.artifact_location, run_id, model_id=model.model_id, model_uuid=model.model_id),
            python_model=str(CODE),
            artifacts={"model": str(path)},
            code_paths=[str(PACKAGE)],
            model_config={"options": {about["settings"]["sampler"]: about["settings"]["options"]}},
            signature=signature(about["img_shape"], about["settings"]),
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in NEEDS],
        )
        client.log_model_artifacts(model.model_id, f"{folder}/model")
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    metrics = about["metrics"].items()
    client.log_batch(run_id, [Metric(key, value, about["time"], 0, model_id=model.model_id) for key, value in metrics])
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model


def signature(img_shape: Sequence[int], settings: Mapping[str, Any]) -> "ModelSignature":
    """The inputs, params and outputs of a request (see `served.Sampler.predict`).

    `clip_sample` is a number for networks that are sampled with dynamic thresholding, and a bool for others.
    """
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    c, h, w = img_shape
    params = [ParamSpec("seed", "long", 0), ParamSpec("label", "long", None)]
    kinds = PARAMS | ({"clip_sample": "double"} if isinstance(settings["clip_sample"], float) else {})
    params += [ParamSpec(name, kind, settings[name]) for name, kind in kinds.items()]
    images = TensorSpec(np.dtype(np.uint8), (-1, h, w, c))
    return ModelSignature(Schema([ColSpec("long", "n")]), Schema([images]), ParamSchema(params))


def _new_version(client: "MlflowClient", name: str, model: "LoggedModel", run_id: str, about: Mapping[str, Any]) -> Any:
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):  # it exists
        client.create_registered_model(name)
    tags = {key: f"{value:g}" for key, value in about["metrics"].items()} | about["judged_by"]
    # By location, as MLflow would look up the id in the process's store, not in the client's.
    return client.create_model_version(name, model.artifact_location, run_id, tags, model_id=model.model_id)


def _crown(client: "MlflowClient", name: str, version: int | str, about: Mapping[str, Any]) -> None:
    """Give a version the alias `champion`, if its headline metric is lower than the champion's.

    If the two were judged differently, the alias stays, and the description of the version says so.
    """
    from mlflow.exceptions import MlflowException

    try:
        champion = client.get_model_version_by_alias(name, CHAMPION)
        best = float(champion.tags[about["headline"]])
    except (MlflowException, KeyError):
        champion, best = None, float("inf")
    others = [
        f"{key} is {value}, not {champion.tags.get(key, 'known')}"
        for key, value in about["judged_by"].items()
        if champion and champion.tags.get(key) != value
    ]
    if champion and others:
        said = f"Not compared with the {CHAMPION}, version {champion.version}: {', '.join(others)}."
        client.update_model_version(name, str(version), said)
    elif about["metrics"][about["headline"]] < best:
        client.set_registered_model_alias(name, CHAMPION, str(version))
