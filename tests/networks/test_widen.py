"""A U-Net with extra input channels initially gives the same output, whatever they contain."""

import pytest
import torch

from ddpm.errors import UserError
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.networks.widen import WIDENED, load_widened
from ddpm.run.seeding import generator, global_stream

TEXT = {"width": 8, "layers": 1, "heads": 2, "dropout": 0.2}


def network(name, **changes):
    shape = {"channels": 8, "dim_mults": (1, 2), "groups": 2, "max_steps": 30, "heads": 2, "n_classes": 10, **changes}
    with global_stream(len(name), "init"):
        return Unet(UnetConfig((1, 8, 8), conditioning={"name": name, **TEXT}, **shape)).eval()


@pytest.mark.parametrize("patch_size", [1, 2])
def test_widened_network_gives_same_output_before_training(patch_size):
    narrow, wide = network("caption", patch_size=patch_size), network("inpainting", patch_size=patch_size)
    load_widened(wide, narrow)
    stream = generator(0, "images")
    xt, known = (torch.randn(4, 1, 8, 8, generator=stream) for _ in range(2))
    holes = torch.rand(4, 1, 8, 8, generator=stream) > 0.5
    words, num_steps = narrow.conditioning.draw(0, range(4)), torch.tensor([1, 9, 20, 30])
    cond = wide.conditioning.around(words, (128 * known).clamp(0, 255).byte(), holes)
    # the same sums with zeros among their terms: float32 in another order, values of order 1
    torch.testing.assert_close(wide(xt, num_steps, cond), narrow(xt, num_steps, words), rtol=0, atol=1e-5)
    own = wide.state_dict()[WIDENED]
    assert own.shape[1] == 3 * narrow.state_dict()[WIDENED].shape[1]
    own[:, -1] = 1
    assert (wide(xt, num_steps, cond) - narrow(xt, num_steps, words)).abs().max() > 1e-3


@pytest.mark.parametrize("changes", [{"channels": 16}, {"dim_mults": (1, 1)}, {"head_channels": 4}])
def test_load_widened_rejects_other_architectures(changes):
    with pytest.raises(UserError, match=r"the networks differ: .* does not have the same shape in both"):
        load_widened(network("inpainting"), network("caption", **changes))
