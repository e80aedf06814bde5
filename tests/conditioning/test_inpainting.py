"""Images with holes as conditioning: which pixels are visible and which are not."""

import torch

from ddpm.captions.vocabulary import tokens
from ddpm.conditioning.kinds.inpainting import Inpainting
from ddpm.images import normalize_img

SAID = ["a dark dress", "a pale boot"]


def inpainting():
    torch.manual_seed(0)
    return Inpainting(img_shape=(1, 28, 28), n_classes=10, embedding_size=8, width=16, layers=1, heads=2, dropout=0.2)


def test_network_sees_masked_image_mask_and_caption():
    conditioning = inpainting().eval()
    images = torch.randint(256, (2, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    holes = torch.zeros(2, 1, 28, 28, dtype=torch.bool)
    holes[0, :, 3:9], holes[1, :, :, 20:] = True, True
    given = conditioning(conditioning.around(tokens(SAID), images, holes))
    assert torch.equal(given.image[:, 1:], holes.float())
    x0 = normalize_img(images / 255)
    assert torch.equal(given.image[:, :1][~holes], x0[~holes])
    assert (given.image[:, :1][holes] == 0).all()
    changed = torch.where(holes, 255 - images, images)
    assert torch.equal(
        conditioning.around(tokens(SAID), changed, holes), conditioning.around(tokens(SAID), images, holes)
    )
    caption = super(Inpainting, conditioning).forward(tokens(SAID))
    assert torch.equal(given.tokens, caption.tokens)
    assert torch.equal(given.embedding, caption.embedding)


def test_null_empties_the_caption_and_keeps_the_image():
    conditioning = inpainting().eval()
    images, holes = torch.full((2, 1, 28, 28), 77, dtype=torch.uint8), torch.rand(2, 1, 28, 28) > 0.5
    null = conditioning.null(conditioning.around(tokens(SAID), images, holes))
    assert torch.equal(null, conditioning.around(torch.zeros_like(tokens(SAID)), images, holes))


def test_new_images_have_no_known_pixels():
    conditioning = inpainting().eval()
    for cond in (conditioning.draw(0, [0, 1]), conditioning.of_captions(SAID), conditioning.of_labels(torch.arange(2))):
        image = conditioning(cond).image
        assert (image[:, :1] == 0).all()
        assert (image[:, 1:] == 1).all()
    assert conditioning.labels(conditioning.of_captions(SAID)).tolist() == [3, 9]
