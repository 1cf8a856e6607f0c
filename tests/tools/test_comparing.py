"""The flags that the measuring tools share: their help, and their checks."""

import json
from types import SimpleNamespace

import diversity
import fid
import kinds
import pytest
from _comparing import check, write_json

from pggan.errors import UserError


@pytest.mark.parametrize("tool", [fid, diversity, kinds])
def test_help_has_an_example_and_says_each_default_in_words(tool, capsys):
    with pytest.raises(SystemExit) as end:
        tool.main(["--help"])
    page = capsys.readouterr().out
    assert not end.value.code and f"Example: python tools/{tool.__name__}.py " in page
    assert "None" not in page and "--json FILE" in page


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num": 4}, "--num must be at least 5, not 4"),
        ({"held_out": ""}, "--held-out is empty"),
        ({"json": ""}, "--json is empty"),
        ({"json": "nowhere/x.json"}, "--json nowhere/x.json cannot be written"),
    ],
)
def test_values_that_cannot_be_are_refused(values, said):
    good = {"num": None, "held_out": None, "json": None}
    check(SimpleNamespace(**good), {"num": 5}, ("held_out",))
    with pytest.raises(UserError, match=said):
        check(SimpleNamespace(**good | values), {"num": 5}, ("held_out",))


def test_figures_are_written_where_the_user_says_or_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_json(None, {"a": 1})
    assert not list(tmp_path.iterdir())
    write_json("~/figures.json", {"a": 1})
    assert json.loads((tmp_path / "figures.json").read_text()) == {"a": 1}
