"""`python -m ddpm.export models/unet.safetensors FOLDER --to onnx` exports a trained network for other programs.

- `hub`: the safetensors file, diffusers' config of the noise schedule, and a model card.
- `onnx`: the same with the network as an ONNX graph, which runs without this package.
"""

import argparse
import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ddpm.conditioning.guidance import draw_cond
from ddpm.diffusion.model import DiffusionModel, schedule_of
from ddpm.errors import UserError
from ddpm.networks.checkpoint import load_model
from ddpm.output import check_folder
from ddpm.run.files import atomic_path
from ddpm.run.stage import mistakes_in_one_line

KINDS = "hub", "onnx"
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}  # as diffusers names them
SCORES, PARAMS = Path("reports/evaluate_unet/scores.json"), Path("plan/params.json")
OURS = Path("models/unet.safetensors")  # the model that these scores and params belong to


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser("ddpm.export", description="export a trained network for other programs")
    parser.add_argument("model", type=Path, help="a safetensors file, such as models/unet.safetensors")
    parser.add_argument("folder", type=Path, help="output folder; it must be new or empty")
    parser.add_argument("--to", choices=KINDS, required=True, help="format, see docs/library.md")
    with mistakes_in_one_line("export"):
        export(**vars(parser.parse_args()))


def export(model: Path, folder: Path, to: str) -> None:
    """Write a network to a folder.

    Args:
        model: The network's file.
        folder: The output folder, new or empty.
        to: The format, one of KINDS.

    Raises:
        UserError: The file is not a model, the folder is not empty, a package is missing, or diffusers does not support
            the network's prediction.
        Exception: torch's exporter failed. Nothing is written in either case.
    """
    network = load_model(model)
    if network.prediction not in PREDICTIONS:
        allowed = ", ".join(PREDICTIONS)
        raise UserError(f"{model}: the network predicts {network.prediction}; only {allowed} can be exported")
    if to == "onnx" and not all(map(find_spec, ("onnx", "onnxscript"))):
        raise UserError("--to onnx needs the packages onnx and onnxscript")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty; name a new folder")
    folder = folder.resolve()  # "." has no name, and a link to a folder cannot be replaced by one
    check_folder(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        made = Path(name, folder.name)
        made.mkdir()  # with the usual permissions, unlike the temporary folder around it
        if to == "onnx":
            write_onnx(network, made / "model.onnx")
        shutil.copyfile(model, made / "model.safetensors")
        (made / "scheduler_config.json").write_text(json.dumps(scheduler_config(network), indent=2) + "\n")
        (made / "README.md").write_text(card(network, model, to))
        made.replace(folder)


def scheduler_config(model: DiffusionModel) -> dict[str, Any]:
    """Schedule and prediction as a config for diffusers' schedulers, whose timestep t is t + 1 in this package."""
    betas = schedule_of(model).betas
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": len(betas),
        "trained_betas": betas.tolist(),
        "prediction_type": PREDICTIONS[model.prediction],
        "variance_type": "fixed_small",
        "timestep_spacing": "trailing",
        "clip_sample": True,
        "clip_sample_range": 1.0,
    }


class _Diffusers(nn.Module):
    """A network that counts timesteps from 0 to T - 1, as diffusers does."""

    def __init__(self, model: DiffusionModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, sample: Float[Tensor, "n c h w"], timestep: Int[Tensor, " n"], *cond: Tensor
    ) -> Float[Tensor, "n c h w"]:
        return self.model(sample, timestep + 1, *cond)


def write_onnx(model: DiffusionModel, path: Path) -> None:
    """Write a network as an ONNX graph.

    The inputs are `sample`, `timestep` and, for a conditional network, `cond`. The output is `prediction`.
    """
    cond = draw_cond(model, 0, range(2))
    given = (torch.zeros(2, *model.img_shape), torch.zeros(2, dtype=torch.int64), *([] if cond is None else [cond]))
    names = ("sample", "timestep", "cond")[: len(given)]
    n = torch.export.Dim("n")
    shapes = {"sample": {0: n}, "timestep": {0: n}, **({} if cond is None else {"cond": ({0: n},)})}
    with warnings.catch_warnings(), atomic_path(path) as temporary:
        warnings.simplefilter("ignore")  # from within torch's exporter
        torch.onnx.export(
            _Diffusers(model),
            given,
            str(temporary),
            input_names=names,
            output_names=["prediction"],
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )


def card(model: DiffusionModel, path: Path, to: str) -> str:
    """A model card: what the network is, where it comes from, how good it is, and how to use it."""
    facts = {
        "network": type(model).__name__,
        "images": model.img_shape,
        "predicts": model.prediction,
        "conditioning": model.config.conditioning if model.conditioning else None,
        **model.facts,
        "SHA-256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    rows = "\n".join(f"| {key} | `{value}` |" for key, value in facts.items())
    parts = [
        f"# {path.stem}",
        "A denoising diffusion network (Ho et al. 2020).",
        f"| what | value |\n|---|---|\n{rows}",
    ]
    if path.resolve() == OURS.resolve() and SCORES.is_file():
        parts.append(_scores(json.loads(SCORES.read_text())))
    if path.resolve() == OURS.resolve() and PARAMS.is_file():
        values = json.dumps(json.loads(PARAMS.read_text()), indent=1)
        parts.append(f"## Parameters\n\n```json\n{values}\n```")
    parts.append(_use(model, to))
    return "\n\n".join(parts) + "\n"


def _use(model: DiffusionModel, to: str) -> str:
    """The usage example. For the ONNX graph of a conditional network, it includes the input `cond`."""
    cond = draw_cond(model, 0, range(1))
    if to != "onnx" or cond is None:
        return USE[to]
    zeros = f"torch.zeros({(8, *cond.shape[1:])}, dtype={cond.dtype})"
    made = f"cond = {zeros}  # images are {model.conditioning.describes}: a row each\nx = torch.randn("
    return USE[to].replace("x = torch.randn(", made).replace("(8).numpy()}", '(8).numpy(), "cond": cond.numpy()}')


def _scores(scores: Mapping[str, Any]) -> str:
    rows = "\n".join(
        f"| {name} | {found['samples']['value']:.4g} | {found['floor']['value']:.4g} | {found['better']} | "
        f"{found['sees']} |"
        for name, found in scores["metrics"].items()
    )
    return (
        f"## Scores\n\n{scores['n_samples']} samples against the {scores['reference']} split.\n\n"
        f"| metric | samples | real images | better | sees |\n|---|---|---|---|---|\n{rows}"
    )


USE = {
    "hub": """## Use

```python
from ddpm import load_model, sample

images = sample(load_model("model.safetensors"), 8, clip_sample=True)
```""",
    "onnx": """## Use

```python
import json

import onnxruntime
import torch
from diffusers import DDPMScheduler

network = onnxruntime.InferenceSession("model.onnx")
scheduler = DDPMScheduler.from_pretrained(".")
shape = network.get_inputs()[0].shape[1:]
x = torch.randn(8, *shape)
for t in scheduler.timesteps:
    inputs = {"sample": x.numpy(), "timestep": t.expand(8).numpy()}
    x = scheduler.step(torch.from_numpy(network.run(None, inputs)[0]), t, x).prev_sample
```""",
}


if __name__ == "__main__":
    main()
