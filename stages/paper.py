"""Stage paper: the reverse process of the U-Net as the paper's figures 6 to 10 and 14 look at it."""

import logging
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm.run import compute
from ddpm.errors import UserError
from ddpm.evaluation.classifier import describe, load_classifier
from ddpm.evaluation.metrics import estimate, fid
from ddpm.run.files import load_tensors, save_tensors, write_csv, write_json
from ddpm.images import denormalize_img, from_uint8, normalize_img, to_uint8
from ddpm.diffusion.model import DiffusionModel, labelled, labels_of, labels_to_draw
from ddpm.networks.checkpoint import load_model
from ddpm.conditioning.kinds.clusters import Clusters
from ddpm.run.stage import Stage, run_stage
from ddpm.run.resume.context import Resume, determinants
from ddpm.run.resume.pieces import Pieces
from ddpm.sampling.spacing import timesteps
from ddpm.sampling.reverse import ReverseProcess
from ddpm.sections import Paper
from ddpm.run.seeding import derive_seed, generator

MODEL = Path("models/unet.safetensors")
WEIGHTS = Path("models/classifier.safetensors")
SPLITS = {split: Path(f"data/fashion_mnist/{split}.safetensors") for split in ("train", "test")}
SAMPLES = Path("samples/paper.safetensors")
REPORTS = Path("reports/paper")


def main(stage: Stage) -> None:
    params, seed = stage.params.paper, derive_seed(stage.params.seed, "paper")
    device = compute.set_up(stage.params.device, stage.params.precision, stage.params.threads)
    model, _ = load_model(MODEL)
    splits = {split: load_tensors(path) for split, path in SPLITS.items()}
    train, test = (splits[split]["images"] for split in SPLITS)
    if model.img_shape != tuple(test.shape[1:]):
        raise UserError(f"{MODEL}: makes images of shape {model.img_shape}; FashionMNIST has {tuple(test.shape[1:])}")
    if len(test) < 2 * params.n_pairs:
        raise UserError(f"params.yaml: paper.n_pairs is {params.n_pairs}; {SPLITS['test']} holds {len(test)} images")
    classifier, extractor = load_classifier(WEIGHTS)
    classifier.to(device.device)
    for path in (MODEL, WEIGHTS, *SPLITS.values()):
        stage.run.log_input(path, "paper")

    assert model.noise_schedule is not None
    max_steps = len(model.noise_schedule)
    kept = timesteps(max_steps, params.n_steps or max_steps)
    reverse = ReverseProcess(model.to(device.device), kept, params.variance, params.clip_sample, device)
    stops = torch.linspace(len(kept) - 1, 1, min(params.n_moments, len(kept) - 1), dtype=torch.float64).round().long()
    pairs, labels = (splits["test"][name][: 2 * params.n_pairs].unflatten(0, (-1, 2)) for name in ("images", "labels"))
    about = determinants("paper", stage.params, device)
    with Resume("paper", about, params.checkpoint_seconds) as resume:
        pieces = Pieces(resume)
        estimates = x0_estimates(reverse, stops.tolist(), params, seed, pieces)
        save_tensors(
            SAMPLES,
            n_steps=torch.tensor(len(kept) - 1),
            estimates=estimates[:, : params.n_films],
            estimates_t=kept[stops],
            **shared_latents(reverse, params, seed, pieces),
            sources=pairs,
            **interpolations(reverse, normalize_img(from_uint8(pairs)), labels, params, seed, pieces),
        )

        sets = train[-params.n_samples :], *estimates
        reference, *features = (describe(classifier, images).features for images in (test, *sets))
        floor, *found = (estimate(partial(fid, reference), points, params.n_halves, seed) for points in features)
        facts = {"n_samples": params.n_samples, "reference": "test", "extractor": extractor}
        by_step = dict(zip(kept[stops].tolist(), found, strict=True))
        for t, score in by_step.items():
            logging.info("t = %d: fid_fashion_cnn of the x0 estimates %s, floor %s (%s)", t, score, floor, facts)
            stage.run.log_metrics({"fid_fashion_cnn": score.value}, max_steps - t)
        rows = ((t, *asdict(score).values()) for t, score in by_step.items())
        write_csv(REPORTS / "x0_quality.csv", ("num_steps", "fid_fashion_cnn", "low", "high"), rows)
        stage.run.set_tags({name: str(fact) for name, fact in facts.items()})
        write_json(REPORTS / "x0_quality.json", {**facts, "fid_fashion_cnn_floor": asdict(floor)})
        for path in (SAMPLES, *sorted(REPORTS.iterdir())):
            stage.run.log_artifact(path)


def x0_estimates(reverse: ReverseProcess, stops: list[int], params: Paper, seed: int, pieces: Pieces) -> Tensor:
    """Equation 15 at each of `stops` of n_samples chains: 8-bit images, (stops, n_samples, c, h, w)."""
    last, n, firsts = len(reverse.kept) - 1, params.n_samples, range(0, params.n_samples, params.batch_size)

    def batch(first: int) -> tuple[Tensor]:
        found, chains = [], range(first, min(first + params.batch_size, n))
        told = replace(reverse, model=labelled(reverse.model, labels_to_draw(reverse.model, seed, chains)))
        for stop, xt in zip(range(last, -1, -1), told.walk(streams("chain", seed, chains)), strict=True):
            if stop in stops:
                found.append(pixels(told.estimate(xt, stop)))
            progress.update()
        return (torch.stack(found),)

    made: list[Tensor] = []
    with tqdm(total=len(firsts) * (last + 1), desc="paper", disable=None) as progress:
        for first in firsts:
            made += pieces(f"estimates/{first}", partial(batch, first))
            progress.update(len(made) * (last + 1) - progress.n)  # a batch that was made before
    return torch.cat(made, dim=1)


def shared_latents(reverse: ReverseProcess, params: Paper, seed: int, pieces: Pieces) -> dict[str, Tensor]:
    """Figure 7: x_t of the first chains at some depths, and branches with their own noise that go on from there."""
    stops, n = [reverse.stop(depth) for depth in params.split_depths], params.n_branches
    labels = labels_to_draw(reverse.model, seed, range(params.n_split))
    told = replace(reverse, model=labelled(reverse.model, labels))
    chains = [*told.walk(streams("chain", seed, range(params.n_split)))][::-1]  # x_0 to x_T
    latents = torch.stack([chains[stop] for stop in stops], dim=1)

    def branches(chain: int, depth: int) -> Tensor:
        xt, name = latents[chain, depth].expand(n, *latents.shape[2:]), f"split/{chain}/{depth}"
        told = replace(reverse, model=labelled(reverse.model, labels, torch.full((n,), chain)))
        return pieces(name, lambda: (pixels(told.decode(xt, stops[depth], streams(name, seed, range(n)))),))[0]

    found = [[branches(chain, depth) for depth in range(len(stops))] for chain in range(params.n_split)]
    return {
        "latents": pixels(latents),
        "branches": torch.stack([torch.stack(row) for row in found]),
        "split_t": reverse.kept[stops],
    }


def interpolations(
    reverse: ReverseProcess, pairs: Tensor, labels: Tensor, params: Paper, seed: int, pieces: Pieces
) -> dict[str, Tensor]:
    """Figures 8 and 9: every pair mixed at one depth, and the first pair at several."""
    lambdas = torch.linspace(0, 1, params.n_lambdas)

    def mixture(pair: int, stop: int) -> tuple[Tensor]:
        noise = torch.randn(pairs.shape[2:], generator=generator(seed, "encoding", pair))
        own = streams("decoding", seed, [pair] * len(lambdas))  # the same noise for every lambda
        told = replace(reverse, model=told_of_mixtures(reverse.model, pairs[pair], labels[pair], lambdas))
        return (pixels(told.interpolate(pairs[pair, 0], pairs[pair, 1], lambdas, stop, noise, own)),)

    def mixed(pair: int, stop: int) -> Tensor:
        return pieces(f"mixed/{pair}/{stop}", partial(mixture, pair, stop))[0]

    stop, stops = reverse.stop(params.interpolation_depth), [reverse.stop(depth) for depth in params.coarse_depths]
    return {
        "lambdas": lambdas,
        "interpolation": torch.stack([mixed(pair, stop) for pair in range(len(pairs))]),
        "interpolation_t": reverse.kept[[stop]],
        "coarse": torch.stack([mixed(0, stop) for stop in stops]),
        "coarse_t": reverse.kept[stops],
    }


def told_of_mixtures(model: DiffusionModel, images: Tensor, classes: Tensor, lambdas: Tensor) -> DiffusionModel:
    """`model`, told of mixtures of two images: the class of the nearer one, or the mixture of their clusters' means."""
    labels = labels_of(model, images, classes)
    if labels is None or model.clusters is None:
        return labelled(model, labels, (lambdas > 0.5).long())
    first, second = model.clusters(labels.to(model.clusters.means.device))
    model = deepcopy(model)
    model.clusters = Clusters(len(lambdas), model.img_shape).to(first.device)
    model.clusters.means.copy_(torch.lerp(first, second, lambdas.to(first.device).reshape(-1, 1, 1, 1)))
    return labelled(model, torch.arange(len(lambdas)))


def streams(name: str, seed: int, indices: Iterable[int]) -> list[torch.Generator]:
    return [generator(seed, name, index) for index in indices]


def pixels(images: Tensor) -> Tensor:
    return to_uint8(denormalize_img(images)).cpu()


if __name__ == "__main__":
    run_stage("paper", main, reads=("seed", "device", "precision", "threads", "paper"))
