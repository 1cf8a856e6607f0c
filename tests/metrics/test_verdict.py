"""The verdict: each branch, the order of severity, and that no worse evidence makes it healthier."""

import itertools
import re
from dataclasses import fields, replace

import pytest

from pggan.metrics.verdict import VERDICTS, Evidence, judge

FINE = Evidence(
    ratio=1.0,
    high=1.1,
    effective_samples=240.0,
    count=250,
    largest=0.0,
    duplicates=0.0,
    dropped=0.0,
    copied=0.0,
    fidelity=1.0,
    soft_fidelity=0.9,
    uniform=False,
    pictures=True,
)
SEVERITY = {"healthy": 0, "partial-collapse": 1, "memorization": 1, "collapsed": 2, "too-early": 1, "other-pictures": 1}
LEVELS = {  # from good to bad, on both sides of each threshold
    "high": [1.1, 0.7, 0.6, 0.2],
    "largest": [0.0, 0.5, 0.9],
    "duplicates": [0.0, 0.03, 0.04, 0.06, 0.3, 1.0],
    "dropped": [0.0, 0.05, 0.06, 1.0],
    "copied": [0.0, 0.04, 0.05, 0.06, 0.3, 1.0],
}
ALL = [replace(FINE, **dict(zip(LEVELS, levels, strict=True))) for levels in itertools.product(*LEVELS.values())]


def seen(**others) -> tuple[str, str]:
    return judge(replace(FINE, **others))


def test_samples_as_good_as_the_reals_are_healthy_and_the_reason_says_how_varied():
    assert judge(FINE) == (
        "healthy",
        "the samples are as varied as 240 of 250 different pictures (diversity score 1.00)",
    )


@pytest.mark.parametrize(
    ("others", "verdict", "told"),
    [
        (
            {"high": 0.2, "ratio": 0.15, "effective_samples": 16.0},
            "collapsed",
            "16 of 250 different pictures (diversity score 0.15)",
        ),
        ({"largest": 0.6}, "collapsed", "60% of the samples are nearly one and the same"),
        (
            {"high": 0.6, "ratio": 0.5, "effective_samples": 90.0},
            "partial-collapse",
            "90 of 250 different pictures (diversity score 0.50)",
        ),
        ({"duplicates": 0.1}, "partial-collapse", "10% of the samples are near-duplicates"),
        ({"copied": 0.3}, "memorization", "30% of the samples are copies of training pictures"),
        ({"dropped": 0.2, "ratio": 0.93}, "partial-collapse", "20% of the real pictures"),
        ({"fidelity": 0.2, "pictures": False}, "too-early", "not like the real pictures yet (fidelity 0.20"),
        ({"fidelity": 0.2, "pictures": False, "high": 0.2}, "too-early", "they are also nearly all alike"),
        ({"fidelity": 0.2, "pictures": True, "high": 0.2}, "other-pictures", "they are also nearly all alike"),
        ({"fidelity": 0.6, "uniform": True}, "too-early", "not like the real pictures yet (fidelity 0.60"),
        (
            {"fidelity": 0.2},
            "other-pictures",
            "other pictures than the real ones, or still far from them (fidelity 0.20",
        ),
        (
            {"soft_fidelity": 0.4},
            "other-pictures",
            "other pictures than the real ones, or still far from them (fidelity 0.40",
        ),
    ],
)
def test_each_piece_of_evidence_has_its_verdict_and_its_reason(others, verdict, told):
    found, reason = seen(**others)
    assert found == verdict and told in reason


@pytest.mark.parametrize(
    ("name", "bound", "step", "verdict"),
    [
        ("high", 0.25, -0.001, "collapsed"),
        ("high", 0.7, -0.001, "partial-collapse"),
        ("largest", 0.5, 0.001, "collapsed"),
        ("duplicates", 0.03, 0.001, "partial-collapse"),
        ("copied", 0.05, 0.001, "memorization"),
        ("dropped", 0.05, 0.001, "partial-collapse"),
        ("fidelity", 0.33, -0.001, "other-pictures"),
        ("soft_fidelity", 0.5, -0.001, "other-pictures"),
    ],
)
def test_a_verdict_begins_just_beyond_its_threshold(name, bound, step, verdict):
    assert seen(**{name: bound})[0] != verdict and seen(**{name: bound + step})[0] == verdict


def test_the_worst_there_is_to_say_goes_first():
    everything, order = {"high": 0.2, "largest": 0.9, "duplicates": 0.9, "dropped": 0.9}, []
    for mended in ({}, {"high": 0.6}, {"largest": 0.0}, {"high": 1.0}, {"duplicates": 0.0}, {"dropped": 0.0}):
        everything |= mended
        order.append(seen(**everything))
    assert [verdict for verdict, _ in order] == [*["collapsed"] * 2, *["partial-collapse"] * 3, "healthy"]
    for (_, reason), told in zip(
        order, ["varied", "one and the same", "varied", "near-dup", "hardly", "varied"], strict=True
    ):
        assert told in reason


def test_the_reason_is_one_sentence_with_numbers():
    assert SEVERITY.keys() == set(VERDICTS)
    for evidence in ALL:
        verdict, reason = judge(evidence)
        assert verdict in VERDICTS and re.search(r"\d", reason) and "\n" not in reason and len(reason) < 200
        assert ". " not in reason and not reason.endswith(".") and reason == reason.strip()


def test_no_piece_of_evidence_makes_it_healthier_by_being_worse():
    for evidence in ALL:
        before = SEVERITY[judge(evidence)[0]]
        for name, levels in LEVELS.items():
            for worse in levels[levels.index(getattr(evidence, name)) + 1 :]:
                after = replace(evidence, **{name: worse})
                assert SEVERITY[judge(after)[0]] >= before, (evidence, after)


def test_only_samples_without_any_bad_evidence_are_healthy():
    for evidence in ALL:
        good = evidence.high >= 0.7 and evidence.largest <= 0.5 and evidence.duplicates <= 0.03
        good = good and evidence.dropped <= 0.05 and evidence.copied <= 0.05
        assert (judge(evidence)[0] == "healthy") == good, evidence


def test_copies_are_told_of_whatever_the_verdict_is():
    """Of samples that are copies of few training pictures, too."""
    for evidence in ALL:
        assert ("copies of training pictures" in judge(evidence)[1]) == (evidence.copied > 0.05), evidence


def test_every_copy_drawn_twice_is_memorization_and_few_of_them_a_collapse():
    assert seen(copied=1.0, duplicates=0.3)[0] == "memorization"
    assert seen(copied=1.0, high=0.2)[0] == "collapsed"


def test_quality_comes_before_variety():
    """Not before samples that are nearly all the same, nor before copies: these are like the reals, or a collapse."""
    for found in ({"high": 0.2, "ratio": 0.1}, {"dropped": 0.9}, {"duplicates": 0.4}, {"ratio": 1.6, "high": 1.63}):
        assert seen(fidelity=0.1, **found)[0] == "other-pictures"
        assert seen(fidelity=0.1, pictures=False, **found)[0] == "too-early"
    assert seen(fidelity=0.1, largest=0.9)[0] == "collapsed" and seen(fidelity=0.1, copied=0.9)[0] == "memorization"
    assert seen(fidelity=0.1, duplicates=0.9, high=0.1)[0] == "collapsed"


def test_samples_that_are_not_like_the_reals_are_never_healthy():
    for evidence in ALL:
        for unlike in ({"fidelity": 0.3}, {"soft_fidelity": 0.4}, {"uniform": True, "fidelity": 0.6}):
            assert judge(replace(evidence, **unlike))[0] != "healthy"


def test_evidence_is_a_row_of_plain_numbers():
    assert all(isinstance(getattr(FINE, item.name), float | int) for item in fields(Evidence))
