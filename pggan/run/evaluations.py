"""Evaluations in the middle of training, and where their results go."""

from collections.abc import Callable

from pggan.data.packing import ImageCache
from pggan.errors import UserError
from pggan.evaluation import evaluator
from pggan.evaluation.evaluator import Evaluation
from pggan.metrics.reference import Reference
from pggan.run.timer import Timer
from pggan.training.state import TrainState


class Evaluations:
    """Compares samples with the images of the stage.

    reference: the images' side of the comparison; None if nothing is measured at this resolution.
    """

    def __init__(self, timer: Timer, say: Callable[[str], None]):
        self.timer, self.say = timer, say
        self.reference: Reference | None = None
        self.res = 0

    def begin_stage(self, images: ImageCache, state: TrainState) -> None:
        """Measures the images of the stage that begins, unless a rollback only repeats it."""
        if self.res == state.res:
            return
        self.reference, self.res = None, state.res
        if evaluator.wanted(state.config, state.res):
            try:
                with self.timer.measure("reference"):
                    self.reference = evaluator.reference(state.config, images, state.res, self.say)
            except UserError as error:
                self.say(f"quality and diversity are not measured at {state.res} px: {error}")
                return
            per_image = self.timer.last.get("step", 0.0) / state.batch()
            self.timer.last["evaluate"] = evaluator.seconds(state.config, per_image)

    def evaluate(self, state: TrainState) -> Evaluation | None:
        """Adds an evaluation to the state's history and returns it; None if there is none here, or one at this nimg.

        After a UserError, the user is told, and nothing more is measured in the stage.
        """
        if not self.reference or (state.history and state.history[-1]["nimg"] == state.nimg):
            return None
        try:
            with self.timer.measure("evaluate"):
                found = evaluator.evaluate(state, state.alpha, self.reference)
        except UserError as error:
            self.reference = None
            self.say(f"nothing more is measured at {state.res} px: {error}")
            return None
        before = state.history[-1]["verdict"] if state.history else ""
        state.history.append(found.record(state.nimg, state.res, state.alpha))
        if found.verdict != before:
            self.say(f"{state.res} px at {state.nimg / 1000:.2f} kimg: {found.verdict}; {found.reason}")
        return found
