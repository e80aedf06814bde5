"""The server draws what the library draws. Also which requests it answers, and its error messages."""

import json
import socket
import time
from base64 import b64decode
from collections.abc import Iterator
from itertools import cycle
from threading import Thread

import numpy as np
import pytest
import torch
from analytic import Linear
from play.small import HOST, MODELS, T, ask, levels, seeded, serving
from torch import Tensor

from ddpm import inpaint, interpolate, sample
from ddpm.play.server import LONGEST, Server
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.spacing import SPACINGS, timesteps

MASK = torch.zeros(8, 12, dtype=torch.bool)
MASK[2:6, 3:9] = True


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def drawn(server: Server, path: str, **words: object) -> dict[int, Tensor]:
    """The 8-bit images by t, in order of arrival."""
    answer = ask(server, path, words)
    assert answer.status == 200, answer.read()
    channels, height, width = MODELS[words["network"]].img_shape
    frames = {}
    for line in answer.read().splitlines():
        frame = json.loads(line)
        pixels = np.frombuffer(b64decode(frame["images"]), dtype=np.uint8)
        frames[frame["num_steps"]] = torch.tensor(pixels).reshape(-1, height, width, channels)
    return frames


def image(channels: int, seed: int = 0) -> Tensor:
    return torch.randint(256, (8, 12, channels), generator=seeded(seed), dtype=torch.uint8)


def x0(pixels: Tensor) -> Tensor:
    return pixels.permute(2, 0, 1) / 255 * 2 - 1


@pytest.mark.parametrize(("sampler", "spacing"), list(zip(SAMPLERS, cycle(SPACINGS))))
def test_draw_steps_match_library(server, sampler, spacing):
    chosen = {"sampler": sampler, "n_steps": 4, "spacing": spacing}
    steps = sample(MODELS["colour"], 5, True, seeded(7), clip_sample=True, **chosen)
    frames = drawn(server, "/draw", network="colour", seed=7, n=5, **chosen)
    assert list(frames) == timesteps(MODELS["colour"].noise_schedule, 4, spacing).flip(0).tolist()
    assert all(torch.equal(frame, levels(x)) for frame, x in zip(frames.values(), steps, strict=True))


def test_draw_takes_first_class_and_default_steps_as_offered(server):
    """The class 0, and the choices that the page starts with."""
    offered = json.load(ask(server, "/choices"))["defaults"]
    assert offered == {"seed": 0, "sampler": "unipc", "n_steps": 10, "spacing": "even"}
    chosen = {name: value for name, value in offered.items() if name != "seed"}
    labels = torch.zeros(3, dtype=torch.int64)
    expected = sample(MODELS["labels"], 3, generator=seeded(0), labels=labels, clip_sample=True, **chosen)
    assert torch.equal(drawn(server, "/draw", network="labels", n=3, label=0)[0], levels(expected))


def test_draw_passes_options_label_and_guidance_to_library(server):
    words = {"network": "labels", "seed": 1, "n_steps": 4, "n": 3}
    chosen = {"sampler": "ddim", "guidance_scale": 3.0, "clip_sample": True, "n_steps": 4, "eta": 0.5}
    expected = sample(MODELS["labels"], 3, generator=seeded(1), labels=torch.tensor([2, 2, 2]), **chosen)
    found = drawn(server, "/draw", **words, sampler="ddim", options={"eta": 0.5}, label=2, guidance_scale=3.0)
    assert torch.equal(found[0], levels(expected))
    for other in ({"options": {"eta": 1.0}}, {"label": 1}, {"guidance_scale": 1}):
        asked = {"sampler": "ddim", "options": {"eta": 0.5}, "label": 2, "guidance_scale": 3.0} | other
        assert not torch.equal(drawn(server, "/draw", **words, **asked)[0], found[0])


def test_fill_matches_library_and_keeps_unmasked_pixels(server):
    pixels = image(3)
    words = {"network": "colour", "seed": 5, "n_steps": 3, "n": 2, "n_resamples": 2, "spacing": "even"}
    frames = drawn(server, "/fill", **words, image=pixels.flatten().tolist(), mask=MASK.flatten().tolist())
    assert list(frames) == [20, 13, 7, 0]
    images = x0(pixels).expand(2, 3, 8, 12)
    expected = inpaint(MODELS["colour"], images, MASK, seeded(5), n_steps=3, n_resamples=2, clip_sample=True)
    assert torch.equal(frames[0], levels(expected))
    assert torch.equal(frames[0][:, ~MASK], pixels.expand(2, 8, 12, 3)[:, ~MASK])
    assert not torch.equal(frames[0][0], frames[0][1])


def test_fill_uses_given_class_or_cluster_of_image(server):
    words = {"seed": 5, "n_steps": 3, "n": 2, "n_resamples": 1, "mask": MASK.flatten().tolist()}
    kept = {"n_steps": 3, "spacing": "karras", "n_resamples": 1, "clip_sample": True, "guidance_scale": 2.0}
    for name, label in (("labels", 1), ("clusters", None)):
        model, pixels = MODELS[name], image(MODELS[name].img_shape[0])
        images = x0(pixels).expand(2, *model.img_shape)
        cond = torch.tensor([1, 1]) if label else model.conditioning.encode(images, None)
        expected = inpaint(model, images, MASK, seeded(5), cond=cond, **kept)
        asked = {"network": name, "label": label, "guidance_scale": 2, "image": pixels.flatten().tolist()}
        assert torch.equal(drawn(server, "/fill", **words, **asked)[0], levels(expected))


@pytest.mark.parametrize(("name", "label"), [("grey", None), ("labels", 2)])
def test_mix_matches_library(server, name, label):
    model = MODELS[name]
    first, second = (image(model.img_shape[0], seed) for seed in (1, 2))
    words = {"network": name, "seed": 3, "n_steps": 5, "num_steps": 12, "n": 4, "label": label}
    ends = [first.flatten().tolist(), second.flatten().tolist()]
    labels = None if label is None else torch.tensor([2, 2])
    kept = {"n_steps": 5, "spacing": "karras", "clip_sample": True, "labels": labels}
    expected = interpolate(model, x0(first), x0(second), 4, 12, seeded(3), **kept)
    assert torch.equal(drawn(server, "/mix", **words, images=ends)[0], levels(expected))


def said(answer) -> str:
    """The error message of an answer."""
    return json.loads(answer.read().splitlines()[-1])["error"]


@pytest.mark.parametrize(
    ("path", "words", "says"),
    [
        ("/draw", {"network": "blue"}, "network is 'blue'; available: grey, colour, labels, clusters"),
        ("/draw", {}, "draw: network is missing"),
        ("/draw", {"network": "grey", "colour": 1}, "draw: colour is not a parameter"),
        ("/draw", {"network": "grey", "n_steps": 21}, "n_steps is 21; it must be in 1..20"),
        ("/draw", {"network": "grey", "n_steps": 2}, "n_steps is 2; sampler unipc takes at least 3"),
        ("/draw", {"network": "grey", "n": 65}, "draw: n is 65; input should be less than or equal to 64"),
        ("/draw", {"network": "grey", "seed": -1}, "draw: seed is -1; input should be greater than or equal to 0"),
        ("/draw", {"network": "grey", "sampler": "x"}, "draw: sampler: 'x' is not a sampler; allowed: ancestral, ddim"),
        ("/draw", {"network": "grey", "spacing": "x"}, "draw: spacing: 'x' is not a spacing; allowed: even, karras"),
        ("/draw", {"network": "grey", "options": {"n_samples": 9}}, "options of sampler unipc: none"),
        ("/draw", {"network": "grey", "label": 1}, "labels is given; this model is unconditional"),
        ("/draw", {"network": "labels", "label": 3}, r"labels are \[3\]; allowed: whole numbers 0 to 2"),
        ("/draw", {"network": "grey", "guidance_scale": 2}, "guidance_scale is 2; this model was trained without"),
        ("/draw", {"network": "grey", "sampler": "ancestral", "options": {"variance": "learned"}}, "learned"),
        ("/draw", [1], "draw: all of it is .*; it should be a section"),
        ("/draw", b"{", "invalid JSON: Expecting"),
        ("/draw", b"\xff", "invalid JSON: "),
        ("/draw", b"[" * 100_000, "invalid JSON: maximum recursion depth"),
        ("/fill", {"network": "grey", "image": [0], "mask": [True] * 96}, "an image has 1 values; .* 96: 8 x 12 of 1"),
        ("/fill", {"network": "grey", "image": [0] * 96, "mask": [True]}, "mask has 1 values; .* have 96 pixels"),
        ("/fill", {"network": "grey", "image": [256] * 96, "mask": []}, "fill: image.0 is 256; .* 255"),
        ("/fill", {"network": "labels", "image": [0] * 288, "mask": [True] * 96}, "this model needs the classes"),
        ("/mix", {"network": "grey", "images": [[0] * 96] * 2, "num_steps": 21}, r"num_steps is 21; .* in 1\.\.20"),
        ("/mix", {"network": "grey", "images": [[0] * 96], "num_steps": 9}, "mix: images is .*at least 2 items"),
    ],
)
def test_invalid_requests_are_rejected_with_reason(server, path, words, says, capfd):
    answer = ask(server, path, words)
    late = isinstance(words, dict) and words.get("options", {}).get("variance")  # is only noticed at the first step
    assert answer.status == (200 if late else 400)
    with pytest.raises(ValueError, match=says):
        raise ValueError(said(answer))
    assert capfd.readouterr() == ("", "")


def test_choices_and_network_describe_available_settings(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # without params.yaml, which names the classes
    choices = json.load(ask(server, "/choices"))
    assert (choices["networks"], choices["spacings"]) == (list(MODELS), list(SPACINGS))
    assert {name: entry["min_steps"] for name, entry in choices["samplers"].items()} == {
        name: entry.min_steps for name, entry in SAMPLERS.items()
    }
    eta = choices["samplers"]["ddim"]["options"]["eta"]
    assert (eta["minimum"], eta["maximum"], eta["default"]) == (0, 1, 0)
    found = {name: json.load(ask(server, f"/network?{name}")) for name in MODELS}
    assert found["colour"] == {"img_shape": [3, 8, 12], "max_steps": T, "classes": [], "guided": False}
    assert found["labels"] == {"img_shape": [3, 8, 12], "max_steps": T, "classes": ["0", "1", "2"], "guided": True}
    assert (found["clusters"]["classes"], found["clusters"]["guided"]) == ([], True)
    assert "available: grey" in said(ask(server, "/network?none"))


def test_server_binds_to_localhost_only(server):
    assert server.server_address[0] == "127.0.0.1"


WORDS = {"network": "grey", "n_steps": 3, "n": 1}


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # DNS rebinding
        {"Host": "evil.example:{port}"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
    ],
    ids=str,
)
def test_foreign_hosts_and_origins_are_rejected(server, headers):
    own = f"http://localhost:{server.server_port}"
    headers = {name: value.format(port=server.server_port) for name, value in headers.items()}
    for path, words in (("/", None), ("/choices", None), ("/draw", WORDS)):
        assert ask(server, path, words, **headers).status == 403
        assert ask(server, path, words, Origin=own).status == 200


def test_form_posts_and_preflight_requests_are_rejected(server):
    """Browsers send text/plain without a preflight request, but not JSON."""
    assert ask(server, "/draw", WORDS, **{"Content-Type": "text/plain"}).status == 403
    assert ask(server, "/draw", method="OPTIONS", Origin="http://evil.example").status == 501


def test_only_page_files_are_served(server):
    for path in ("/server.py", "/../server.py", "/play/page.html", "/page.js/", "//etc/passwd", "/draw"):
        assert ask(server, path).status == 404
    for path in ("/other", "/choices", "/"):
        assert ask(server, path, WORDS).status == 404
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        answer = ask(server, path)
        assert answer.headers["Content-Type"] == f"{kind}; charset=utf-8"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("length", [str(LONGEST + 1), "-1", "many"])
def test_invalid_content_length_is_rejected(server, length):
    assert ask(server, "/draw", WORDS, **{"Content-Length": length}).status == 413


class Counting(Linear):
    """Counts the threads in it, and its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.most, self.calls = 0, 0, 0

    def forward(self, images, num_steps):
        self.inside += 1
        self.calls += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.02)
        self.inside -= 1
        return super().forward(images, num_steps)


def test_concurrent_draws_run_one_at_a_time():
    model = Counting()
    words = {"network": "it", "n_steps": 5, "n": 1}
    with serving({"it": lambda: model}) as server:
        threads = [Thread(target=lambda: ask(server, "/draw", words).read()) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (model.most, model.calls) == (1, 15)


def test_client_disconnect_stops_its_draw(capfd):
    model = Counting()
    with serving({"it": lambda: model}) as server:
        body = json.dumps({"network": "it", "n_steps": 20, "n": 64})
        head = f"POST /draw HTTP/1.1\r\nHost: {HOST}:{server.server_port}\r\nContent-Type: application/json\r\n"
        with socket.create_connection((HOST, server.server_port)) as page:
            page.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            assert page.recv(4)
        last = ask(server, "/draw", {"network": "it", "n_steps": 3, "n": 1})
        assert len(last.read().splitlines()) == 4
    assert model.calls < 20 + 3
    assert capfd.readouterr() == ("", "")
