"""Durations of experiments, from MLflow."""

import os

from ddpm.run.tracking.outbox import tracking_uri


def minutes_of_experiments() -> dict[str, float]:
    """Minutes from the start of an experiment's first stage to the end of its last, by the experiment's name."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # otherwise it retries for five minutes
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri())
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(everywhere, "tags.`dvc.exp_name` != ''", max_results=5000)
    return {
        run.data.tags["dvc.exp_name"]: (run.info.end_time - run.info.start_time) / 1000 / 60
        for run in runs
        if run.info.end_time and "mlflow.parentRunId" not in run.data.tags
    }
