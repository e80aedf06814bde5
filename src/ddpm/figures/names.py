"""Names of models and their samples in titles and captions."""

from ddpm.diffusion.model import DiffusionModel


def run_label(model: str, step: int, seed: int) -> str:
    """The name of a model in a title, such as "Unet after 3,000 training steps, seed 0"."""
    return f"{model} after {step:,} training steps, seed {seed}"


def label_of(model: DiffusionModel) -> str:
    """The name of a trained model in a title."""
    words = run_label(type(model).__name__, model.facts["step"], model.facts["seed"])
    return f"{words}, from given weights" if "init" in model.facts else words


def origin(model: DiffusionModel) -> str:
    """What a model samples from, in words."""
    return "from pure noise" if model.conditioning is None else f"from pure noise, {model.conditioning.describes}"
