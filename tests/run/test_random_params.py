"""Random and odd values of every key and section of params.yaml: rejected in one clear line, or one step runs."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_step import STEPS, set_up
from whole import VALUES, changed, check, check_section, nodes, stages, value_at, without

from ddpm.errors import UserError
from ddpm.run.dvc import sections
from ddpm.run.params import Chooses, Section

CASES = 6  # for each key and section, of which there are about 100
WORDS = [
    *("linear", "cosine", "linear_zero_snr", "eps", "v", "none", "auto", "cuda", "bf16", "held_out", "learned"),
    *("fixed_large", "mean", "bound", "min_snr", "x0", "ddim", "unipc", "labels", "clusters", "mlp", "unet"),
]
SURPRISES = [
    *(None, True, False, "", " ", "null", "1e-3", "nan", "a\nb", "\0", "\ud800", "\u202e\u540d\u524d", "x" * 100_000),
    *(0, -1, 1, 2, 3, 28, 10_000, 2**31, 2**63, -(2**63), 10**400, 16**5000),
    *(0.0, -0.0, -0.5, 0.5, 5e-324, 1e-300, 1.0, 1e308, float("nan"), float("inf"), float("-inf")),
    *([], [None], [[]], [1], [0, 0, 0], [3, 256, 256], [1] * 7, {}, {"a": {"b": [{}]}}, {1: 2}, {None: None}),
]
ONE_LINE = re.compile(r"params\.yaml: (\S+ is missing|.+ is not a parameter; check its spelling|.+ (is|has) .+; \S.+)")
PATHS = list(nodes())


def replacements(old):
    """Replacements for `old` in the file: plausible values, and surprises."""
    surprises = st.sampled_from(SURPRISES)
    if isinstance(old, dict):
        keys = st.sampled_from(list(old))
        less = keys.map(lambda gone: {key: value for key, value in old.items() if key != gone})
        other = st.tuples(keys | st.text(max_size=9), surprises).map(lambda pair: old | dict([pair]))
        return surprises | less | other
    plausible = {
        bool: st.booleans(),
        int: st.integers(1, 64) | st.integers(1, 20_000) | st.integers(),
        float: st.floats(0, 1) | st.floats(),
        list: st.lists(st.integers(1, 300) | st.floats(0, 1) | st.sampled_from(WORDS), max_size=7),
    }
    return plausible.get(type(old), st.sampled_from(WORDS) | st.text(max_size=9)) | surprises


def accepted(path, value):
    """The params with `value` at `path`, or None if they are rejected, after checking the message."""
    values = changed(path, value)
    try:
        check_section(section_of(path), values)
        return check(values)
    except UserError as error:
        lines = str(error).splitlines()
    for line in lines:
        assert ONE_LINE.fullmatch(line), line
        assert len(line) < 400
    assert any(part in line for line in lines for part in path)
    return None


def section_of(path):
    """The key of the section of a path, or an unrelated one."""
    return ".".join(path[:2]) if path[0] == "sample" and len(path) > 1 else path[0] if path[0] in OWN else "bound"


OWN = {key for key, value in VALUES.items() if isinstance(value, dict)} - {"sample"}


@pytest.mark.parametrize("path", PATHS, ids=".".join)
@settings(max_examples=CASES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_value_is_rejected_in_one_line_or_runs_one_step(path, data):
    if params := accepted(path, data.draw(replacements(value_at(path)))):
        STEPS.get(path[0], set_up)(params)


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_odd_values_are_accepted_or_rejected_in_one_line(path):
    for value in SURPRISES:
        accepted(path, value)


def test_missing_params_are_named_except_options():
    for path in PATHS:
        if is_option(path):
            continue
        with pytest.raises(UserError) as refused:
            check(without(path))
        assert str(refused.value) == f"params.yaml: {'.'.join(path)} is missing"


def is_option(path):
    """Whether a path leads to the options of a registry entry, which may have defaults."""
    section = sections(stages()).get(section_of(path))
    if not issubclass(section or Section, Chooses):
        return False
    return any(part in registry for part in path[1:] for registry in section.registries().values())


def test_project_params_are_valid_and_non_mappings_are_rejected():
    assert check(VALUES).seed == VALUES["seed"]
    for whole in (value for value in SURPRISES if not isinstance(value, dict)):
        with pytest.raises(UserError) as refused:
            check(whole)
        assert re.fullmatch(r"params\.yaml.{1,400}", str(refused.value))
