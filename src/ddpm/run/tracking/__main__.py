"""`python -m ddpm.run.tracking ui` shows the runs in a browser, and `send` uploads those that MLflow lacks."""

import os
import sys

from ddpm.run.root import repo_root
from ddpm.run.tracking.connection import connect, page
from ddpm.run.tracking.delivery import send
from ddpm.run.tracking.outbox import reason, tracking_uri, without_secrets

HOST = "127.0.0.1"  # local only


def ui() -> None:
    """Print the URL of the experiment's page, and start MLflow's server unless there is a remote one."""
    try:
        _, identity = connect()
    except Exception as error:
        sys.exit(f"ui: {without_secrets(tracking_uri())}: {reason(error)}")
    if not (uri := tracking_uri()).startswith("http"):
        port = os.environ.get("MLFLOW_PORT", "5000")
        print(f"http://{HOST}:{port}{page(identity)}", flush=True)
        os.chdir(repo_root())
        command = "ui", "--backend-store-uri", uri, "--host", HOST, "--port", port
        os.execv(sys.executable, [sys.executable, "-m", "mlflow", *command])
    print(f"{without_secrets(uri).rstrip('/')}{page(identity)}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ui"]:
            ui()
        case ["send"]:
            sys.exit(send())
        case words:
            sys.exit(f"tracking: the command is {' '.join(words)!r}; it must be ui or send")
