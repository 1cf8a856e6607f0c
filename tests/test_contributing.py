"""CONTRIBUTING.md: its snippets, put where it says, work."""

import re
import shutil
import subprocess
import sys

import pytest
from runs import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
SECTIONS = re.findall(r"^## (.+?)\n.*?```python\n(.*?)```", PAGE, flags=re.MULTILINE | re.DOTALL)

# Run in a copy of the project that has all snippets.
CHECK = """
import torch
import torchvision.models as zoo
from dataclasses import replace
from pggan.config import cli
from pggan.config.augmentation import augmentation
from pggan.config.presets import before_flags
from pggan.config.schema import Config
from pggan.evaluation.figures import FIGURES
from pggan.metrics.extractors import open_extractor
from pggan.metrics.spaces import mode_features
from pggan.run.profiling import computed_peak, trial_state, trial_step
from pggan.schedule import scheduler_for
from pggan.schedule.stages import Progress, Stage
from pggan.training.loading import state_from
from pggan.training.state import new_state
from pggan.training.step import step, step_phases

flags = ["--preset", "smoke", "--loss", "squared-hinge", "--arch", "mono", "--augment", "negative"]
flags += ["--schedule", "eager", "--start-res", "4", "--max-res", "8", "--batch", "4"]
config = cli.parse(Config, flags, before_flags(flags))
assert config.training.penalty_weight.at(4) == 1
state = trial_state(config, 8, torch.device("cpu"))
reals = trial_step(state, 4, number=1)
assert [phase.name for phase in step_phases(state)] == ["D", "G", "D again"]
seen = []
state.opt_D.register_step_pre_hook(lambda *_: seen.append("D"))
step(state, reals)
assert seen == ["D", "D"] and state.finite() and "r_t" in state.sums
images = state.G(torch.randn(3, config.network.latent), 1.0)
assert torch.equal(images[:, 0], images[:, 1])
assert computed_peak(state, 4) > 0
state.alarms = 7
values = state.to_dict()
assert state_from(values, torch.device("cpu")).alarms == 7
del values["alarms"]
assert state_from(values, torch.device("cpu")).alarms == 0
zoo.get_model = lambda name, weights, make=zoo.get_model: make(name)  # weights made at random: nothing is downloaded
config = cli.parse(Config, [*flags, "--features", "resnet18"], before_flags(flags))
featured = trial_state(config, 8, torch.device("cpu"))
step(featured, trial_step(featured, 4, number=1))
assert featured.finite() and "g_features" in featured.sums
assert all(float(moments["step"]) == 1 for moments in featured.opt_heads.state.values())
assert len(featured.opt_heads.state) == len([*featured.heads.parameters()])
assert mode_features(images[:, :, :1, :1].expand(-1, -1, 64, 64))["gray"].shape == (3, 256)
assert open_extractor("gray").space == "gray"
assert any(figure.key == "diversity/sample_count" for figure in FIGURES)
scheduler, progress = scheduler_for(config.schedule), Progress(Stage(8, stable=100), 50, (16,))
assert scheduler.decide(progress, []) is None
assert scheduler.decide(progress, [{"res": 8, "verdict": "healthy"}]).action == "grow"
"""


def inserted(text: str, place: str, lines: list[str]) -> str:
    """`text` with `lines` `in NAME` (a table or a class), `above NAME`, or `at the top`."""
    where, name = place.split(maxsplit=1)
    if where == "at":
        start = re.search(r"^from pggan", text, flags=re.MULTILINE).start()
        return text[:start] + "".join(f"{line}\n" for line in lines) + text[start:]
    head = re.search(rf"^( *)(class )?{name}\b.*[\[({{:](?:  #.*)?\n", text, flags=re.MULTILINE)
    if where == "above":
        return text[: head.start()] + "\n".join(lines) + "\n\n\n" + text[head.start() :]
    end = r"^    (?:def |@)|^(?=\S)|\Z" if head[2] else rf"^{head[1]}[\])}}]"  # of a class: where its methods begin
    start = head.end() + re.search(end, text[head.end() :], flags=re.MULTILINE).start()
    return text[:start] + "".join(f"{head[1]}    {line}\n" for line in lines) + text[start:]


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """A copy of the package with every snippet in its place."""
    copy = tmp_path_factory.mktemp("changed")
    shutil.copytree(ROOT / "pggan", copy / "pggan", ignore=shutil.ignore_patterns("__pycache__"))
    for _, code in SECTIONS:
        for place, lines in re.findall(r"^# (\S+\.py.*)\n((?:(?!# \S+\.py).*\n)+)", code, flags=re.MULTILINE):
            file, _, rest = place.partition(", ")
            path = copy / file
            if not rest:
                path.write_text(lines)
                continue
            path.write_text(inserted(path.read_text(), rest, lines.splitlines()))
    return copy


def test_each_snippet_has_ten_lines_at_most():
    assert len(SECTIONS) == 9
    for title, code in SECTIONS:
        lines = [line for line in code.splitlines() if line and not line.startswith("# ")]
        assert 1 <= len(lines) <= 10, title


def test_the_snippets_work_where_the_page_puts_them(changed):
    run = subprocess.run([sys.executable, "-c", CHECK], cwd=changed, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
