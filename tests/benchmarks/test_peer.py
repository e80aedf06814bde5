"""The training loop of the peers, with a one-parameter peer. No peer's package is needed."""

from itertools import islice

import pytest
import torch
from torch import nn

from benchmarks.core import peer as module
from benchmarks.core.peer import BATCH, PEERS, Parts, Peer, copy_of, passes
from ddpm.data.dataset import ImageDataset
from ddpm.errors import UserError

IMAGES = ImageDataset(torch.arange(3 * BATCH, dtype=torch.uint8).reshape(-1, 1, 1, 1))


@pytest.fixture(autouse=True)
def one_thread():
    """Restore the single thread of other tests, as a peer uses all cores."""
    yield
    torch.set_num_threads(1)


def weight(state):
    return state.modules["model"].weight.item()


@pytest.fixture
def states(toy, monkeypatch):
    """The states of all trainings started."""
    found, start = [], toy.start
    monkeypatch.setattr(toy, "start", lambda *words: found.append(start(*words)) or found[-1])
    return found


def test_passes_train_once_and_resume_from_saved_steps(toy, states, tmp_path):
    weights = [(n_steps, weight(states[0][0])) for n_steps, _ in passes(toy, IMAGES, [3, 5], 0, tmp_path)]
    assert weights == [(3, 6), (5, 15)]
    assert toy.taken == [1, 2, 3, 4, 5]
    assert [step for step, _ in passes(toy, IMAGES, [8], 0, tmp_path)] == [8]
    assert toy.taken[5:] == [6, 7, 8]
    assert weight(states[1][0]) == 36
    weights = [weight(states[2][0]) for _ in passes(toy, IMAGES, [4, 9], 0, tmp_path)]  # from 3, although 8 exists
    assert weights == [10, 45]
    assert list(passes(toy, IMAGES, [], 0, tmp_path)) == []


def test_killed_training_resumes_from_last_requested_steps(toy, states, tmp_path):
    list(islice(passes(toy, IMAGES, [3, 5], 0, tmp_path), 1))
    again = passes(toy, IMAGES, [5], 0, tmp_path)
    assert next(again)[0] == 5
    assert toy.taken == [1, 2, 3, 4, 5]
    assert weight(states[1][0]) == 15


def test_training_seconds_add_up_over_runs(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "Clock", lambda steps: OneSecondEach(steps))
    for n_steps in (3, 5, 6):
        assert list(passes(toy, IMAGES, [n_steps], 0, tmp_path)) == [(n_steps, float(n_steps))]


class OneSecondEach:
    """A clock that counts a second per item."""

    def __init__(self, items):
        self.items, self.seconds = items, 0.0

    def __next__(self):
        self.seconds += 1.0
        return next(self.items)


@pytest.fixture
def shown(monkeypatch):
    """Images that the one-weight peer sees, the arguments of its `update`, and noise that it draws."""
    found = {"images": [], "updates": [], "noise": []}

    def build(img_shape):
        assert img_shape == (1, 1, 1)
        model = nn.Linear(1, 1, bias=False)
        average = copy_of(model)

        def loss(images):
            found["images"].append(images.flatten())
            found["noise"].append(torch.rand(()).item())
            return 1000 * model.weight.sum()

        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        update = found["updates"].append
        return Parts(model, optimizer, loss, lambda: torch.rand(BATCH, 1, 1, 1), average, average, update, clip=0.5)

    monkeypatch.setattr(module, "PEERS", {"torch": build})  # an installed package
    return found


def test_peer_sees_images_once_per_epoch_and_clips_gradient(shown):
    peer = Peer("torch")
    state, steps = peer.start(IMAGES, 4, 0)
    before = weight(state)
    assert list(islice(steps, 1)) == [pytest.approx(1000 * before)]
    assert weight(state) == pytest.approx(before - 0.5)
    list(steps)
    assert (state.step, shown["updates"]) == (4, [1, 2, 3, 4])
    assert sorted(torch.cat(shown["images"][:3]).tolist()) == sorted(IMAGES.images.flatten().tolist())
    assert len(set(shown["noise"])) == 4


def test_peer_takes_each_gradient_alone_and_draws_from_average_in_eval_mode(shown, monkeypatch):
    """A gradient below the norm at which it is clipped: 0.01 in each step."""
    built = module.PEERS["torch"]

    def build(img_shape):
        parts = built(img_shape)
        draw = lambda: torch.full((BATCH, 1, 1, 1), float(parts.average.training))  # noqa: E731
        return parts._replace(loss=lambda _: 0.01 * parts.model.weight.sum(), draw=draw)

    monkeypatch.setattr(module, "PEERS", {"torch": build})
    peer = Peer("torch")
    state, steps = peer.start(IMAGES, 4, 0)
    before = weight(state)
    list(steps)
    assert weight(state) == pytest.approx(before - 4 * 0.01)
    assert not peer.draw(0, 0).any()
    assert shown["updates"] == [1, 2, 3, 4]


def test_peer_randomness_depends_on_seed_and_step_only(shown):
    peer = Peer("torch")
    for seed, first in ((0, 0), (0, 2), (1, 0)):
        state, steps = peer.start(IMAGES, 4, seed)
        state.step = first  # as after loading a state
        list(steps)
    whole, rest, other = shown["noise"][:4], shown["noise"][4:6], shown["noise"][6:]
    assert rest == whole[2:]
    assert other != whole
    assert torch.equal(torch.stack(shown["images"][4:6]), torch.stack(shown["images"][2:4]))
    assert torch.equal(peer.draw(1, 0), peer.draw(1, 0))
    assert not torch.equal(peer.draw(1, 0), peer.draw(0, 0))
    assert not torch.equal(peer.draw(1, 0), peer.draw(1, 1))


def test_missing_peer_package_raises_user_error():
    with pytest.raises(UserError, match="no-such-peer is not installed; run `make peers`"):
        Peer("no-such-peer")


def test_all_peers_are_callable():
    assert len(PEERS) == 3
    assert all(callable(PEERS[name]) for name in PEERS)
