"""Params: errors name the key, options belong to the chosen entries, and nothing undeclared is read."""

from typing import Annotated, Any

import pytest
from annotated_types import Ge, Le
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, model_validator

from ddpm.errors import UserError
from ddpm.registry import Registry
from ddpm.run import params as module
from ddpm.run.params import (
    WHOLE,
    Chooses,
    NoOptions,
    PathName,
    PictureShape,
    Section,
    check_size,
    flatten,
    load_params,
    section,
    validated,
)
from ddpm.run.yaml import dump_yaml

GENERAL = {"seed": 3, "device": "cpu", "precision": "auto", "processes": 2, "checkpoint_seconds": 60}


class Kinds(Registry):
    """Entries that are not files. Records which are used."""

    def __init__(self, what, **entries):
        super().__init__("none", what)
        self.entries, self.used, self._names = entries, [], tuple(entries)

    def __getitem__(self, name):
        self.used.append(name)
        return self.entries[self.checked(name)]


class Eta(Section):
    eta: Annotated[float, Ge(0), Le(1)] = 0.5


class Width(Section):
    width: int


class Entry:
    def __init__(self, options=NoOptions):
        self.Options = options


ROADS = Kinds("road", fast=Entry(Eta), slow=Entry(), wide=Entry(Width))
CARS = Kinds("car", red=Entry(Eta))


class Drive(Chooses):
    """Chooses a road, cars, and perhaps a way back."""

    road: Annotated[str, AfterValidator(ROADS.checked)]
    cars: list[Annotated[str, AfterValidator(CARS.checked)]] = []  # noqa: RUF012, pydantic copies it
    back: Annotated[str, AfterValidator(ROADS.checked)] | None = None
    n: Annotated[int, Ge(0)] = 1

    @classmethod
    def registries(cls) -> dict[str, Registry[Any]]:
        return {"road": ROADS, "cars": CARS, "back": ROADS}

    @model_validator(mode="after")
    def _is_slow_enough(self):
        if self.road == "fast" and self.options("road").eta == 1:
            raise ValueError("eta is 1; a fast road takes less")
        return self


def lines(values, context=WHOLE):
    with pytest.raises(UserError) as refused:
        validated(Drive, values, "params.yaml", context)
    return [line.removeprefix("params.yaml: ") for line in str(refused.value).splitlines()]


@pytest.mark.parametrize("context", [WHOLE, None])
def test_options_match_chosen_entries(context):
    values = {"road": "fast", "fast": {"eta": 0.25}, "red": {"eta": 0.75}, "cars": ["red"]}
    drive = validated(Drive, values, "params.yaml", context)
    assert drive.options("road") == Eta(eta=0.25)
    assert drive.options("cars", "red") == Eta(eta=0.75)
    assert validated(Drive, {"road": "fast"}, "params.yaml", context).options("road") == Eta()
    assert validated(Drive, {"road": "slow"}, "params.yaml", context).options("road") == NoOptions()
    assert list(drive.chosen()) == [("road", "fast"), ("cars", "red")]
    assert list(drive.chosen_modules()) == ["none.fast", "none.red"]


def test_model_dump_contains_only_used_options():
    values = {"road": "fast", "wide": {"width": 3}, "back": "slow"}
    for context in (WHOLE, None):
        drive = validated(Drive, values, "params.yaml", context)
        assert drive.model_dump() == {"road": "fast", "cars": [], "back": "slow", "n": 1, "fast": {"eta": 0.5}}


def test_unchosen_entries_are_not_loaded():
    ROADS.used.clear()
    validated(Drive, {"road": "fast", "wide": {"width": "x"}}, "params.yaml").model_dump()
    assert set(ROADS.used) == {"fast"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"road": "fast", "fast": {"eta": 2}}, ["fast.eta is 2; input should be less than or equal to 1"]),
        ({"road": "slow", "fast": {"eta": 2}}, ["fast.eta is 2; input should be less than or equal to 1"]),
        ({"road": "slow", "slow": {"eta": 2}}, ["slow.eta is not a parameter; check its spelling"]),
        ({"road": "slow", "fast": None}, ["fast is None; it should be a section of keys and values"]),
        ({"road": "slow", "fast": [1]}, ["fast is [1]; it should be a section of keys and values"]),
        ({"road": "wide"}, ["wide.width is missing"]),
        ({"road": "up"}, ["road: 'up' is not a road; allowed: fast, slow, wide"]),
        ({"road": "slow", "cars": ["red", "blue"]}, ["cars.1: 'blue' is not a car; allowed: red"]),
        ({"road": "slow", "fasst": {}}, ["fasst is not a parameter; check its spelling"]),
        ({"road": "slow", 1: 2}, ["1 is not a parameter; check its spelling"]),
        ({"road": ["slow"]}, ["road is ['slow']; input should be a valid string"]),
        ({"road": "fast", "fast": {"eta": 1.0}}, ["eta is 1; a fast road takes less"]),
        ([], ["all of it is []; it should be a section of keys and values"]),
        (
            {"road": "wide", "n": -1, "wide": {"width": "a", "height": 1}, "fast": {"eta": "b"}, "x": 1},
            [
                "n is -1; input should be greater than or equal to 0",
                "wide.width is 'a'; input should be a valid integer",
                "wide.height is not a parameter; check its spelling",
                "fast.eta is 'b'; input should be a valid number",
                "x is not a parameter; check its spelling",
            ],
        ),
    ],
)
def test_each_mistake_is_reported_with_its_key(values, expected):
    assert lines(values) == expected


def test_invalid_options_are_rejected_without_context():
    drive = validated(Drive, {"road": "slow", "back": "fast", "fast": {"eta": 2}}, "params.yaml")
    with pytest.raises(UserError, match=r"params\.yaml: fast: eta is 2; input should be less"):
        drive.options("back")
    assert lines({"road": "slow", "fasst": {}}, None) == ["fasst is not a parameter; check its spelling"]


def test_chooses_requires_registries():
    class Lost(Chooses):
        pass

    with pytest.raises(TypeError, match="Lost must say what it chooses from"):
        Lost.model_validate({})


class Speed(Section):
    speed: float


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "params.yaml"
    values = GENERAL | {"drive": {"road": "fast"}, "ride": {"slow": {"speed": 1.5}, "fast": {"speed": 9}}, "other": {}}
    path.write_text(dump_yaml(values))
    return path


def test_load_params_returns_only_declared_sections(file):
    params = load_params({"drive": Drive, "ride.slow": Speed}, file)
    assert (params.seed, params.drive.road, params.ride.slow.speed) == (3, "fast", 1.5)
    assert section(params, "ride.slow") == Speed(speed=1.5)
    assert set(params.model_dump()) == {*GENERAL, "drive", "ride"}
    assert set(params.ride.model_dump()) == {"slow"}


def test_load_params_rejects_undeclared_keys_of_whole_file(file):
    sections = {"drive": Drive, "ride.slow": Speed, "ride.fast": Speed}
    with pytest.raises(UserError) as refused:
        load_params(sections, file, whole=True)
    assert str(refused.value) == f"{file}: other is not a parameter; check its spelling"
    with pytest.raises(UserError, match=r"ride\.fast is not a parameter"):
        load_params({"drive": Drive, "ride.slow": Speed, "other": NoOptions}, file, whole=True)
    params = load_params({**sections, "other": NoOptions}, file, whole=True)
    assert params.ride.fast.speed == 9


def test_load_params_reports_missing_and_null_sections(file):
    with pytest.raises(UserError, match=f"{file}: ride.high is missing"):
        load_params({"ride.high": Speed}, file)
    with pytest.raises(UserError, match=f"{file}: walk is missing"):
        load_params({"walk": Speed}, file)
    file.write_text(dump_yaml(GENERAL | {"ride": None}))
    with pytest.raises(UserError, match="ride is None; it should be a section of keys and values"):
        load_params({"ride.slow": Speed}, file)


@pytest.mark.parametrize("text", ["", "[]", "seed", "null"])
def test_load_params_rejects_non_mapping_in_one_line(text, file):
    file.write_text(text)
    with pytest.raises(UserError) as refused:
        load_params({}, file)
    assert str(refused.value).startswith(f"{file}: all of it is ")
    assert "\n" not in str(refused.value)


@given(st.binary(max_size=60))
def test_load_params_rejects_random_bytes_with_file_name(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        load_params({}, path)
    assert all(line.startswith(f"{path}: ") for line in str(refused.value).splitlines())


def test_validation_converts_only_int_to_float():
    values = {"speed": 1}
    assert type(validated(Speed, values, "p").speed) is float  # the only conversion, which is lossless
    for wrong in ("1", True, [1], float("nan"), float("inf")):
        with pytest.raises(UserError, match="speed is"):
            validated(Speed, {"speed": wrong}, "p")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (PathName, ["a/b c", "ü"], ["", "a\nb", "\0", "x" * 5000]),
        (PictureShape, [[1, 1, 1], [3, 256, 256]], [[2, 4, 4], [3, 4], [3, 0, 4], [3, 257, 4], [3, 4, 4, 4]]),
    ],
)
def test_path_and_shape_types_accept_only_valid_values(kind, good, bad):
    class Own(Section):
        value: kind

    for value in good:
        assert validated(Own, {"value": value}, "p").value == value
    for value in bad:
        with pytest.raises(UserError) as refused:
            validated(Own, {"value": value}, "p")
        assert len(str(refused.value)) < 400


def test_check_size_rejects_huge_tensors():
    check_size("n", 2**28)
    with pytest.raises(ValueError, match="n x shape is 268435456 x 2; at most 268435456 numbers are allowed at once"):
        check_size("n x shape", 2**28, 2)


def test_huge_integers_are_described_in_words():
    assert module._shown(10**5000) == "a number of thousands of digits"


def test_flatten_gives_dotted_keys():
    nested = {"seed": 0, "train_unet": {"lr": 1e-3, "unet": {"dim_mults": (1, 2)}, "none": {}}}
    assert dict(flatten(nested)) == {"seed": 0, "train_unet.lr": 1e-3, "train_unet.unet.dim_mults": (1, 2)}
