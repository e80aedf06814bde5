"""A trained network served by MLflow: a sampler, which responds to a request with images.

MLflow runs this file where it loads the model, with a copy of the package next to it. `predict` has no type hints:
MLflow would use them as the schema of requests, which is `model_registry.signature`.
"""

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class Sampler(PythonModel):
    """Samples images. Its params are arguments of `ddpm.sample`, a seed and a label."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the network from its safetensors file."""
        from ddpm import load_model

        self._model = load_model(context.artifacts["model"])
        self._options = dict(context.model_config["options"])

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Draw images.

        Args:
            context: Passed by MLflow and not used.
            model_input: A table of one row, with the number of images in column `n`.
            params: sampler, n_steps, spacing, guidance_scale and clip_sample as in `ddpm.sample`, seed, and label (a
                class for all images, or None to let the model draw its own conditioning).

        Returns:
            An array of (n, h, w, c) images with values from 0 to 255, uint8.

        Raises:
            MlflowException: `n` or a param is not allowed. The message says what is.
        """
        import torch

        from ddpm import denormalize_img, sample
        from ddpm.images import to_uint8

        said = dict(params or {})
        seed, label = said.pop("seed", 0), said.pop("label", None)
        if len(model_input["n"]) != 1:
            raise MlflowException.invalid_parameter_value(f"n has {len(model_input['n'])} rows; it must have one")
        n = int(model_input["n"][0])
        labels = None if label is None else torch.full((max(n, 0),), label)
        options = self._options.get(said.get("sampler"), {})
        stream = torch.Generator().manual_seed(seed)
        try:
            images = sample(self._model, n, generator=stream, labels=labels, **said, **options)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None  # otherwise MLflow hides the message
        return to_uint8(denormalize_img(torch.as_tensor(images))).permute(0, 2, 3, 1).numpy()


set_model(Sampler())
