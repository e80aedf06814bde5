"""Stage guide: samples by caption and guidance scale."""

from functools import partial
from pathlib import Path

import torch

from ddpm.captions.grid import Grid
from ddpm.captions.vocabulary import tokens
from ddpm.conditioning.captioned import cond_of_rows
from ddpm.latent.autoencoder import decode_latents, load_autoencoder
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import save_tensors
from ddpm.run.resume.pieces import Pieces
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.given import Drawing, draw_given

WEIGHTS, MODEL, SAMPLES = "models/autoencoder.safetensors", "models/latent.safetensors", "samples/guide.safetensors"


class Guide(Drawing):
    """Section `guide`. grid: captions and guidance scales of the figure. The rest as in `sample_latent`."""

    grid: Grid


def main(stage: StageRun) -> None:
    device, params, pieces = stage.compute.device, stage.params, Pieces(stage.resume)
    model, decode = load_model(MODEL).to(device), partial(decode_latents, load_autoencoder(Path(WEIGHTS)).to(device))
    rows = tokens(params.grid.captions)
    cond = cond_of_rows(model.conditioning, rows.repeat_interleave(params.grid.n, dim=0))
    own = params, stage.seed, stage.compute
    drawn = [
        draw_given(model, cond, scale, *own, pieces.within(f"{scale:g}"), decode=decode).unflatten(0, (len(rows), -1))
        for scale in params.grid.scales
    ]
    save_tensors(Path(SAMPLES), samples=torch.stack(drawn, 1), tokens=rows, scales=torch.tensor(params.grid.scales))


STAGES = {"guide": Stage(main, section=Guide, deps=[WEIGHTS, MODEL], outs=[SAMPLES], resumes=True)}

if __name__ == "__main__":
    run(STAGES)
