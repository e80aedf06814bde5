"""YAML is read as by DVC, which uses ruamel.yaml. Invalid YAML is reported in one line."""

import io
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML, YAMLError

from ddpm.errors import UserError
from ddpm.run.yaml import dump_yaml, load_yaml

DIGITS = st.text("0123456789_", min_size=1, max_size=4)
SIGN = st.sampled_from(["", "-", "+"])
NUMBERS = st.builds(
    "{}{}{}{}{}".format,
    SIGN,
    st.sampled_from(["", "0b", "0o", "0x", "0", "1"]),
    st.text("0123456789abcdef_", max_size=4),
    st.sampled_from(["", ".", ".5", "._", ".inf", ".NaN", ":30"]),
    st.builds("{}{}{}".format, st.sampled_from(["", "e", "E"]), SIGN, DIGITS),
)
WORDS = st.sampled_from(
    [
        *("null", "Null", "NULL", "~", "true", "True", "TRUE", "false", "False", "FALSE", "yes", "Yes"),
        *("no", "on", "Off", "y", "n", "nULL", "tRUE", ".inf", "-.INF", "+.Inf", ".nan", ".NAN"),
        *("inf", "nan", "1e-3", "1e3", "1.e+3", ".5e3", ".5e+3", "2026-01-31", "1:30", "190:20:30", "0", "-0"),
        *("00", "012", "0o17", "017", "0x1F", "0b101", "1_000", "_1", "=", "<<", "'a'", '"b"'),
        *("a.b", "a-b"),
    ]
)


@given(st.one_of(NUMBERS, WORDS, st.text("0123456789+-._eExobTtrueFfalsnN~yo", max_size=6)))
@example("1e-3")
@example("on")
def test_scalars_match_ruamel(tmp_path_factory, scalar):
    text = f"key: {scalar}\nlist:\n- {scalar}\n"
    path = tmp_path_factory.mktemp("yaml") / "a.yaml"
    path.write_text(text)
    try:
        theirs = YAML(typ="safe").load(io.StringIO(text))
    except (YAMLError, ValueError, IndexError):  # such as `key: 0x_`
        with pytest.raises(UserError, match=r"a\.yaml: not valid YAML"):
            load_yaml(path)
        return
    assert repr(load_yaml(path)) == repr(theirs)  # distinguishes 1, 1.0 and True, and nan equals itself


@pytest.mark.parametrize("text", ["a: 1\na: 2", "b: {a: 1, c: {}, a: 1}", "- {1: 0, 1: 0}", "? [1]\n: 2\n? [1]\n: 3"])
def test_duplicate_keys_are_rejected(text, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=r"a\.yaml: not valid YAML: the key .* occurs twice in .*, line \d"):
        load_yaml(tmp_path / "a.yaml")


@given(st.binary(max_size=60))
def test_random_bytes_load_or_fail_in_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("yaml") / "a.yaml"
    path.write_bytes(content)
    try:
        load_yaml(path)
    except UserError as error:
        message = str(error)
    else:
        return
    assert re.fullmatch(r".*/a\.yaml: not valid YAML: .+", message)


@pytest.mark.parametrize(
    "text",
    [
        *("1" * 5000, "2026-13-45", "!!float x", "!!int x", "!!bool x", "!!timestamp x", "[" * 500),
        *("'", "*nowhere", "!!python/object/apply:os.system [true]", "\x07", "\t- 1", "{{}: 1}"),
    ],
)
def test_invalid_yaml_is_reported_in_one_line(text, tmp_path):
    (tmp_path / "a.yaml").write_text(f"key: {text}")
    with pytest.raises(UserError) as caught:
        load_yaml(tmp_path / "a.yaml")
    assert re.fullmatch(rf"{tmp_path}/a\.yaml: not valid YAML: .+", str(caught.value))


def test_missing_file_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"a\.yaml: cannot be read \(No such file"):
        load_yaml(tmp_path / "a.yaml")


TEXTS = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), max_size=9)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS


@given(st.dictionaries(TEXTS, VALUES | st.lists(VALUES, max_size=3), max_size=4))
@example({"cmd": "x" * 300, "on": "yes", "lr": "1e-3"})
def test_dump_and_load_round_trip(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("yaml") / "a.yaml"
    path.write_text(dump_yaml(values), encoding="utf-8")
    assert load_yaml(path) == values
