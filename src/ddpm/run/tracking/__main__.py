"""`python -m ddpm.run.tracking` prints where runs go; with `send`, it delivers those that MLflow has not taken yet."""

import sys

from ddpm.run.tracking.delivery import send
from ddpm.run.tracking.outbox import tracking_uri

if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            print(tracking_uri())
        case ["send"]:
            sys.exit(send())
        case words:
            sys.exit(f"tracking: the command is {' '.join(words)}; it must be send, or none to print where runs go")
