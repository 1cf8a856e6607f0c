"""Settings that change with the resolution."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.config.per_resolution import PerResolution
from pggan.errors import UserError

VALUES = st.floats(0, 1e9, allow_nan=False)


def test_one_value_or_pairs():
    assert PerResolution.parse("16").values == ((0, 16.0),)
    assert PerResolution.parse("128:0.5,32:64").values == ((32, 64.0), (128, 0.5))
    assert PerResolution.parse("5,64:2").values == ((0, 5.0), (64, 2.0))


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.integers(0, 4096), VALUES, min_size=1))
def test_its_text_reads_back_exactly(values):
    made = PerResolution(tuple(sorted(values.items())))
    assert PerResolution.parse(str(made)) == made


@pytest.mark.parametrize(
    "text", ["", "x", "32:", "32:x", "a:1", "1.5:1", "32:1,", "32:1,32:2", "1,2", "-1", "32:-1", "nan", "inf", "1:2:3"]
)
def test_other_text_is_refused_and_quoted(text):
    with pytest.raises(UserError, match=r"^[^\n]+$") as caught:
        PerResolution.parse(text)
    assert f"'{text}'" in str(caught.value)


@pytest.mark.parametrize(("res", "value"), [(4, 64), (32, 64), (63, 64), (64, 32), (128, 32), (256, 8), (2048, 8)])
def test_a_value_holds_from_its_resolution_up_to_the_next(res, value):
    assert PerResolution.parse("32:64,256:8,64:32").at(res) == value


def test_the_value_in_a_fade_is_interpolated_geometrically():
    values = PerResolution.parse("32:1,64:16")
    assert [values.fading(64, alpha) for alpha in (0.0, 0.5, 1.0)] == pytest.approx([1, 4, 16])
    assert PerResolution.parse("0.3").fading(64, 0.4) == pytest.approx(0.3)


@pytest.mark.parametrize("text", ["32:0,64:16", "32:16,64:0"])
def test_a_value_of_zero_is_not_interpolated(text):
    values = PerResolution.parse(text)
    assert values.fading(64, 0.5) == values.at(64)


def test_it_is_true_when_any_value_is_above_zero():
    assert PerResolution.parse("0,64:1") and not PerResolution.parse("0,64:0")
