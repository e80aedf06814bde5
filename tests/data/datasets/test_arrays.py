"""Data sets `npz` and `idx`: a user's own arrays, with and without labels and test images."""

import gzip

import numpy as np
import pytest

from ddpm.data.dataset import Data, split
from ddpm.errors import UserError

RANDOM = np.random.default_rng(0)
X = RANDOM.integers(0, 256, (100, 5, 6), dtype=np.uint8)
Y = RANDOM.integers(0, 3, 100)


def loaded(name, path):
    return split(Data(name=name, path=str(path), n_train=None, n_held_out=None))


def npz(tmp_path, **arrays):
    np.savez(tmp_path / "own.npz", **arrays)
    return tmp_path / "own.npz"


def idx_file(folder, name, array, header=None):
    folder.mkdir(exist_ok=True)
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    content = (header or bytes((0, 0, 8, array.ndim))) + sizes + array.tobytes()
    if name.endswith(".gz"):
        content = gzip.compress(content)
    (folder / name).write_bytes(content)
    return folder


def pairs(splits):
    """Every image, channels last, with its class."""
    return {
        (image.movedim(0, 2).numpy().squeeze().tobytes(), None if part.labels is None else int(part.labels[i]))
        for part in splits.values()
        for i, image in enumerate(part.images)
    }


@pytest.mark.parametrize("layout", ["nhw", "nhwc", "nchw", "floats"])
def test_npz_accepts_common_image_layouts(tmp_path, layout):
    colours = RANDOM.integers(0, 256, (100, 5, 6, 3), dtype=np.uint8)
    images = {"nhw": X, "nhwc": colours, "nchw": np.moveaxis(colours, 3, 1), "floats": (X - 0.4).clip(0) / 255}[layout]
    splits = loaded("npz", npz(tmp_path, x_train=images, y_train=Y, class_names=["a", "b", "c"]))
    drawn = colours if "c" in layout else X
    assert pairs(splits) == {(image.tobytes(), int(label)) for image, label in zip(drawn, Y, strict=True)}
    assert [len(part) for part in splits.values()] == [52, 24, 24]
    assert splits["test"].class_names == ("a", "b", "c")


def test_given_test_images_become_the_test_split(tmp_path):
    arrays = {"x_train": X, "x_test": X[:40] // 2, "y_train": Y, "y_test": Y[:40]}
    splits = loaded("npz", npz(tmp_path, **arrays))
    assert np.array_equal(splits["test"].images[:, 0].numpy(), X[:40] // 2)
    assert np.array_equal(splits["train"].images[:, 0].numpy(), X[:76])
    assert splits["test"].labels.tolist() == Y[:40].tolist()
    folder = idx_file(tmp_path / "idx", "train-images-idx3-ubyte.gz", X)
    idx_file(folder, "t10k-images-idx3-ubyte", X[:40] // 2)
    idx_file(folder, "train-labels-idx1-ubyte", Y.astype(np.uint8))
    idx_file(folder, "t10k-labels-idx1-ubyte.gz", Y[:40].astype(np.uint8))
    again = loaded("idx", folder)
    assert all(np.array_equal(again[name].images, part.images) for name, part in splits.items())
    assert all(np.array_equal(again[name].labels, part.labels) for name, part in splits.items())


def test_unlabelled_images_have_no_classes(tmp_path):
    splits = loaded("idx", idx_file(tmp_path / "idx", "train-images-idx3-ubyte", X))
    assert pairs(splits) == {(image.tobytes(), None) for image in X}
    assert splits["train"].class_names == ()


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"images": X}, "it has no x_train; its arrays are images"),
        ({"x_train": X[0]}, r"x_train has shape \(5, 6\)"),
        ({"x_train": X[:, :3]}, r"x_train has shape \(100, 1, 3, 6\)"),
        ({"x_train": X.astype(np.int32)}, "x_train has type int32"),
        ({"x_train": X * 2.0}, "x_train has type float64"),
        ({"x_train": X[:71]}, "it has 71 different, readable images; at least 72 are needed"),
        ({"x_train": X[:47], "x_test": X}, "x_train has 47 images; at least 48 are needed"),
        ({"x_train": X, "x_test": X[:10]}, "x_test has 10 images; at least 24 are needed"),
        (
            {"x_train": np.full_like(X, 7), "x_test": X},
            "its 100 training images are all the same; at least 2 must differ",
        ),
        ({"x_train": X, "y_train": Y[:99]}, r"y_train has shape \(99,\) .*; 100 images need as many labels"),
        ({"x_train": X, "y_train": Y - 1}, "y_train .* whole numbers from 0"),
        ({"x_train": X, "y_train": Y / 2}, "y_train .* type float64"),
        ({"x_train": X, "y_train": Y + 10**9}, "labels go up to 1000000002; 100 images can have at most as many"),
        ({"x_train": X, "y_train": Y, "class_names": ["a"]}, "class_names: 1 given, 1 different; the labels need 3"),
        ({"x_train": X, "y_train": Y, "class_names": [*"abcd"]}, "class_names: 4 given, .* the labels need 3"),
        ({"x_train": X, "y_train": Y, "class_names": [*"aab"]}, "class_names: 3 given, 2 different; the labels need 3"),
        ({"x_train": X, "y_train": Y, "class_names": "abc"}, "class_names: 1 given"),
        ({"x_train": X, "class_names": [*"abc"]}, "class_names: 3 given, .* the labels need 0"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "both splits need labels"),
        ({"x_train": X, "x_test": X[:, 1:]}, "x_train has images of shape"),
        ({"x_train": np.array([None] * 100)}, "hold Python objects, which are not read"),
    ],
)
def test_npz_rejects_invalid_arrays(tmp_path, arrays, reason):
    path = npz(tmp_path, **arrays)
    with pytest.raises(UserError, match=rf"^params\.yaml: data\.path is {path}; .*{reason}"):
        loaded("npz", path)


@pytest.mark.parametrize(
    ("header", "content", "reason"),
    [
        (bytes((0, 0, 13, 3)), X, "it is not an IDX file of 8-bit numbers"),
        (b"\x89PNG", X, "it is not an IDX file"),
        (bytes((0, 0, 8, 2)), X, "it holds .* numbers; its header says 100 x 5"),
    ],
)
def test_idx_rejects_invalid_headers(tmp_path, header, content, reason):
    with pytest.raises(UserError, match=reason):
        loaded("idx", idx_file(tmp_path / "idx", "train-images-idx3-ubyte", content, header))


def test_missing_and_damaged_files_are_rejected(tmp_path):
    for name, path, reason in (
        ("npz", tmp_path / "none.npz", "there is no such file"),
        ("idx", tmp_path / "none", "there is no such folder"),
        ("idx", tmp_path, "it has no train-images-idx3-ubyte"),
    ):
        with pytest.raises(UserError, match=reason):
            loaded(name, path)
    folder = idx_file(tmp_path / "idx", "train-images-idx3-ubyte.gz", X)
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(UserError, match="it cannot be read"):
        loaded("idx", folder)
    (tmp_path / "text.npz").write_text("text")
    np.save(tmp_path / "one.npy", X)
    for file in ("text.npz", "one.npy"):
        with pytest.raises(UserError, match=r"it is not an \.npz file"):
            loaded("npz", tmp_path / file)
