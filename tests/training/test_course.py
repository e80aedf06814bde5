"""Each example of the course text as a test: it must behave as described."""

from contextlib import contextmanager

import mlflow
import pytest
import torch
from torch.utils.data import TensorDataset

import ddpm
from ddpm.data.order import batches
from ddpm.errors import UserError
from ddpm.run.seeding import generator, global_stream
from ddpm.run.tracking.outbox import tracking_uri
from ddpm.run.tracking.record import Run

pytestmark = pytest.mark.usefixtures("own_store")


@pytest.fixture
def own_store(tmp_path, monkeypatch):
    """MLflow in a folder of its own, and plots that open no window."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")


def test_every_course_name_is_exported():
    names = (
        "gradient_images plot_img normalize_img denormalize_img linear_schedule q_eq2 q_eq4 NoiseSchedule noise_img "
    )
    names += "reconstruct DiffusionModel TinyDiffuserConfig TinyDiffuser log_images train sample UnetConfig Unet"
    assert set(names.split()) <= set(dir(ddpm))
    assert all(getattr(ddpm, name) is not None for name in names.split())


def test_gradient_images_are_linear_and_in_range():
    images = ddpm.gradient_images(5, (3, 16, 16))
    assert images.shape == (5, 3, 16, 16)
    assert images.min() >= 0
    assert images.max() <= 1
    # Along each row and column a gradient is straight: second differences vanish.
    assert images.diff(n=2, dim=-1).abs().max() < 1e-5
    assert images.diff(n=2, dim=-2).abs().max() < 1e-5
    ddpm.plot_img(images[0], "a gradient")


def test_denormalize_inverts_normalize():
    images = ddpm.gradient_images(5, (3, 16, 16))
    assert ddpm.normalize_img(images).min() >= -1
    assert (ddpm.denormalize_img(ddpm.normalize_img(images)) - images).abs().max() < 1e-6


def test_forward_process_of_200_steps_hides_the_gradient():
    betas = ddpm.linear_schedule(max_steps=200)
    assert betas.shape == (200,)
    x = ddpm.normalize_img(ddpm.gradient_images(1, (3, 16, 16), torch.Generator().manual_seed(0))[0])
    for q in (ddpm.q_eq2, ddpm.q_eq4):
        kept = []
        for n in (1, 10, 50, 200):
            xt = q(x, n, betas, torch.Generator().manual_seed(n))
            assert xt.shape == x.shape
            kept.append(torch.corrcoef(torch.stack((x.flatten(), xt.flatten())))[0, 1].item())
        assert kept == sorted(kept, reverse=True)
        assert kept[0] > 0.99
        assert kept[-1] < 0.5


def test_reconstruct_inverts_noise_img():
    schedule = ddpm.NoiseSchedule(max_steps=200, device="cpu")
    img = ddpm.gradient_images(1, (3, 16, 16))
    num_steps, noise, noised = ddpm.noise_img(ddpm.normalize_img(img), schedule, max_steps=10)
    assert 1 <= num_steps.item() <= 10
    reconstructed = ddpm.reconstruct(noised, noise, num_steps, schedule)
    assert (ddpm.denormalize_img(reconstructed) - img).abs().max() < 1e-5


def test_untrained_model_output_has_image_shape():
    imgs = ddpm.gradient_images(5, (3, 4, 5))
    model = ddpm.TinyDiffuser(ddpm.TinyDiffuserConfig((3, 4, 5), 16, 100))
    assert model.noise_schedule is None
    assert model(imgs, torch.zeros(imgs.size(0))).shape == imgs.shape


def test_diffusion_model_requires_forward():
    class Forgetful(ddpm.DiffusionModel):
        pass

    with pytest.raises(TypeError, match="forward"):
        Forgetful()


CONFIG = {
    "lr": 0.001,
    "image_shape": (3, 4, 5),
    "hidden_size": 128,
    "epochs": 1,
    "max_steps": 100,
    "batch_size": 128,
    "img_log_interval": 200,
    "n_images_to_log": 3,
    "n_images": 10,
    "n_eval_images": 10,
    "device": torch.device("cpu"),
}


def test_train_logs_to_mlflow_and_model_can_be_sampled():
    sets = [TensorDataset(ddpm.normalize_img(ddpm.gradient_images(10, (3, 4, 5)))) for _ in range(2)]
    model = ddpm.TinyDiffuser(ddpm.TinyDiffuserConfig((3, 4, 5), 128, 100))
    before = [p.clone() for p in model.parameters()]
    trained = ddpm.train(model, CONFIG, *sets)
    assert trained is model
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert len(model.noise_schedule) == 100

    client = mlflow.MlflowClient(tracking_uri())
    runs = client.search_runs([client.get_experiment_by_name("ddpm").experiment_id])
    run = next(run for run in runs if run.info.run_name == "train")
    assert run.data.params["lr"] == "0.001"
    assert run.data.metrics["train/loss"] > 0
    assert run.data.metrics["eval/loss"] > 0
    assert any(artifact.path == "images" for artifact in client.list_artifacts(run.info.run_id))

    assert ddpm.sample(model, 5).shape == (5, 3, 4, 5)
    steps = ddpm.sample(model, 1, return_all_steps=True)
    assert len(steps) == 101
    for i, step in enumerate(steps):
        if i % (len(steps) // 20) == 0:
            ddpm.plot_img(ddpm.denormalize_img(step[0]), f"Step {i}")


def test_misspelled_key_is_rejected():
    model = ddpm.TinyDiffuser(ddpm.TinyDiffuserConfig((3, 4, 5), 16, 100))
    with pytest.raises(UserError, match="config_dict: bach_size is not a parameter"):
        ddpm.train(model, {**CONFIG, "bach_size": 3}, TensorDataset(torch.zeros(1, 3, 4, 5)))


def test_untracked_training_writes_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    images = ddpm.normalize_img(ddpm.gradient_images(10, (3, 4, 5)))
    ddpm.train(tiny(), CONFIG, TensorDataset(images), track=False)
    assert list(tmp_path.iterdir()) == []
    assert "logs to" not in capfd.readouterr().err


def test_tracked_training_reports_tracking_uri(untracked, capfd):
    ddpm.train(tiny(), CONFIG, TensorDataset(ddpm.normalize_img(ddpm.gradient_images(10, (3, 4, 5)))))
    assert capfd.readouterr().err.splitlines()[0] == f"train: logs to {tracking_uri()}"
    assert len(untracked) == 1


@pytest.mark.parametrize(
    ("images", "changes", "said"),
    [
        (torch.zeros(4, 3, 4, 5).byte(), {}, "trainset has type torch.uint8; it must be floats in"),
        (torch.full((4, 3, 4, 5), 255.0), {}, "trainset has values from 255 to 255; they must be in"),
        (torch.zeros(4, 3, 5, 4), {}, r"trainset has shape \(4, 3, 5, 4\); this network takes \(n, 3, 4, 5\)"),
        (torch.zeros(4, 3, 4, 5), {"max_steps": 10}, "max_steps is 10; the network was built for 100"),
        (torch.zeros(4, 3, 4, 5), {"device": "mps"}, "device is mps; .* it must be cpu or cuda"),
        (torch.zeros(4, 3, 4, 5), {"device": "gpu"}, "device is 'gpu'; it must be cpu or cuda"),
        (torch.zeros(4, 3, 4, 5), {"device": None}, "device is None; it must be cpu or cuda"),
        (torch.zeros(4, 3, 4, 5), {"device": "cuda:99"}, "device is cuda:99, but torch finds no such device here"),
        (torch.zeros(4, 3, 4, 5), {"seed": None}, "seed is None; it must be a whole number"),
        (torch.zeros(0, 3, 4, 5), {}, "trainset has no images; it must have at least one"),
    ],
)
def test_train_rejects_invalid_input_before_tracking(images, changes, said, untracked):
    with pytest.raises(UserError, match=said):
        ddpm.train(tiny(), {**CONFIG, **changes}, TensorDataset(images))
    assert untracked == []


def test_train_rejects_empty_sets(untracked):
    images = torch.zeros(4, 3, 4, 5)
    with pytest.raises(UserError, match="testset has no images"):
        ddpm.train(tiny(), CONFIG, TensorDataset(images), TensorDataset(images[:0]))
    with pytest.raises(UserError, match=r"trainset has shape \(0,\)"):
        ddpm.train(tiny(), CONFIG, TensorDataset())
    assert untracked == []


def test_images_are_cast_to_precision_of_weights():
    """Images made by numpy are float64."""
    images = ddpm.normalize_img(ddpm.gradient_images(10, (3, 4, 5)))
    single, double = (
        ddpm.train(tiny(), CONFIG, *[TensorDataset(images.to(dtype))] * 2, track=False).state_dict()
        for dtype in (torch.float32, torch.float64)
    )
    assert all(torch.equal(single[name], double[name]) for name in single)


def test_custom_network_needs_no_config():
    class Own(ddpm.DiffusionModel):
        def __init__(self):
            super().__init__()
            self.img_shape, self.conv = (3, 4, 5), torch.nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, images, num_steps):  # noqa: ARG002
            return self.conv(images)

    images = ddpm.normalize_img(ddpm.gradient_images(10, (3, 4, 5)))
    model = ddpm.train(Own(), CONFIG, TensorDataset(images), track=False)
    assert ddpm.sample(model, 2).shape == (2, 3, 4, 5)


@pytest.mark.usefixtures("untracked")
def test_labels_of_the_sets_become_conditioning(monkeypatch):
    images, labels = torch.zeros(6, 1, 4, 4), torch.tensor([1, 0, 1, 1, 0, 0])
    config = {"img_shape": (1, 4, 4), "max_steps": 20, "channels": 8, "dim_mults": (1, 2), "groups": 2, "heads": 1}
    model = ddpm.Unet(ddpm.UnetConfig(**config, conditioning={"name": "labels", "dropout": 0.0}, n_classes=2))
    given, seen = {"lr": 0.01, "epochs": 1, "max_steps": 20, "batch_size": 3}, []
    monkeypatch.setattr("ddpm.training.course.fit", lambda _, __, *sets, **___: seen.append(sets[:2]))
    ddpm.train(model, given, TensorDataset(images, labels), TensorDataset(images, 1 - labels))
    [(trained, held_out)] = seen
    assert torch.equal(trained.cond, labels)
    assert torch.equal(held_out.cond, 1 - labels)
    with pytest.raises(UserError, match="trainset has one tensor; this network needs a second one"):
        ddpm.train(model, given, TensorDataset(images))
    with pytest.raises(UserError, match="trainset: labels are"):
        ddpm.train(model, given, TensorDataset(images, labels + 5))
    with pytest.raises(UserError, match=r"trainset: labels have shape \(6, 1\); they must have \(6,\)"):
        ddpm.train(model, given, TensorDataset(images, labels[:, None]))


@pytest.fixture
def untracked(monkeypatch):
    """The runs `train` starts, without MLflow."""
    told = []

    @contextmanager
    def stage_run(name, params):
        told.append((name, params))
        yield Run()

    monkeypatch.setattr("ddpm.training.course.stage_run", stage_run)
    return told


def tiny():
    with global_stream(0, "init"):
        return ddpm.TinyDiffuser(ddpm.TinyDiffuserConfig((3, 4, 5), 16, 100))


@pytest.mark.parametrize("seed", [0, 7])
def test_train_matches_plain_adam_on_linear_schedule(untracked, seed):
    def loud():
        model = tiny()
        for parameter in model.parameters():
            parameter.data *= 4  # so that gradients are large enough to be clipped, if they were
        return model

    images = ddpm.normalize_img(ddpm.gradient_images(20, (3, 4, 5), torch.Generator().manual_seed(0)))
    given = {"lr": 0.01, "epochs": 2, "max_steps": 100, "batch_size": 8} | ({"seed": seed} if seed else {})
    ours = ddpm.train(loud(), given, TensorDataset(images))
    # The course's loop, with torch's own Adam.
    model, schedule = loud(), ddpm.NoiseSchedule(100)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for step, chosen in zip(range(1, 7), batches(20, 8, seed), strict=False):
        t, noise, noised = ddpm.noise_img(images[chosen], schedule, generator=generator(seed, "noise", step))
        optimizer.zero_grad()
        (model(noised, t) - noise).square().mean().backward()
        assert torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm() > 2
        optimizer.step()
    for mine, theirs in zip(ours.parameters(), model.parameters(), strict=True):
        assert (mine - theirs).abs().max() < 1e-6  # float32 sums in another order
    assert torch.equal(ours.noise_schedule.betas, schedule.betas)
    assert untracked == [("train", given)]


def test_testset_is_evaluated(untracked):
    seen = set()

    class Seeing(ddpm.TinyDiffuser):
        def forward(self, images, num_steps):
            seen.add((self.training, len(images)))
            return super().forward(images, num_steps)

    sets = [TensorDataset(torch.zeros(n, 3, 4, 5)) for n in (8, 5)]
    ddpm.train(Seeing(ddpm.TinyDiffuserConfig((3, 4, 5), 16, 100)), CONFIG, *sets)
    assert seen == {(True, 8), (False, 5), (False, 3)}  # batches, the test set, and its previews
    assert len(untracked) == 1
