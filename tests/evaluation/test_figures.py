"""The table of figures: what a record holds, and that the table says all there is to say."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from runs import ROOT

from pggan.evaluation.figures import FIGURES, Figure

SCORES = SimpleNamespace(
    band=SimpleNamespace(value=0.123456789, low=-1.0, high=float("nan")), number=2, nothing=None, infinite=float("inf")
)


def figure(name: str, **how) -> Figure:
    return Figure(f"group/{name}", name, "", "none", of=lambda scores: getattr(scores, name), **how)


@pytest.mark.parametrize(
    ("entry", "raw", "record"),
    [
        (figure("number"), False, {"group/number": 2.0}),
        (figure("number", raw=True), True, {"group/raw_number": 2.0}),
        (figure("band", band=True), False, {"group/band": 0.123457, "group/band_low": -1.0}),
        (figure("nothing"), False, {}),
        (figure("infinite"), False, {}),
    ],
)
def test_a_record_holds_what_is_finite_to_six_digits(entry, raw, record):
    assert entry.record(SCORES, raw) == record
    assert all(type(value) is float for value in entry.record(SCORES, raw).values())


def test_each_figure_has_a_key_of_its_own_a_label_and_an_axis_that_fits():
    assert len({key for figure in FIGURES for key in (figure.key, figure.raw_key)}) == 2 * len(FIGURES)
    for figure in FIGURES:
        assert (
            figure.key.split("/")[0] in ("quality", "diversity")
            and figure.label
            and figure.label == figure.label.strip()
        )
        assert figure.low is None or figure.high is None or figure.low < figure.high
        assert not figure.names or (figure.low, figure.high) == (0, len(figure.names) - 1)
        assert not (figure.log and figure.low == 0)


def test_each_figure_is_explained_to_users():
    page = (ROOT / "pggan" / "WATCHING.md").read_text()
    assert all(f"`{figure.key}`" in page for figure in FIGURES)


def test_the_table_needs_neither_torch_nor_numpy():
    code = "import sys; import pggan.evaluation.figures; print(sys.modules.keys() & {'torch', 'numpy'})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
