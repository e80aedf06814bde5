"""`make play`, or `python -m ddpm.play [MODEL ...]`: an interactive page in the browser to sample from a network."""

import argparse
from contextlib import suppress
from pathlib import Path

from ddpm.errors import UserError
from ddpm.play.networks import Networks, on_offer
from ddpm.play.server import HOST, Server
from ddpm.run.stage import mistakes_in_one_line

PORT, TRIES = 8080, 100


def main() -> None:
    """Serve the page until Ctrl-C."""
    parser = argparse.ArgumentParser("ddpm.play", description="draw with a trained network in the browser")
    parser.add_argument("models", type=Path, nargs="*", help="safetensors files; without any, the pipeline's U-Net")
    parser.add_argument("--port", type=int, default=PORT, help="first port to try (%(default)s)")
    words = parser.parse_args()
    with mistakes_in_one_line("play"), suppress(KeyboardInterrupt):
        server = listening(words.port, on_offer(words.models))
        print(f"http://{HOST}:{server.server_port}  (Ctrl-C to stop)", flush=True)
        server.serve_forever()


def listening(port: int, networks: Networks) -> Server:
    """A server at the first free port, starting from `port`.

    Raises:
        UserError: None of TRIES ports is free.
    """
    for candidate in range(max(port, 0), min(port + TRIES, 2**16)):
        with suppress(OSError):  # taken, or reserved for root
            return Server(candidate, networks)
    raise UserError(f"port is {port}; no port from there on is free; use one from 1024 to {2**16 - TRIES}")


if __name__ == "__main__":
    main()
