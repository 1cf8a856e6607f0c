"""Growth by hand: the run stops after each resolution; tools/grow.py grows it."""

from dataclasses import replace

from pggan.schedule.fixed import FixedScheduler
from pggan.schedule.stages import Decision, Progress


class ManualScheduler(FixedScheduler):
    """Plans as the fixed schedule does, and never grows by itself."""

    def decide(self, progress: Progress, history: list[dict]) -> Decision | None:
        """Stops the run where the fixed schedule would grow it."""
        decision = super().decide(progress, history)
        if decision is None or decision.action == "stop":
            return decision
        return replace(decision, action="stop", reason=f"{decision.reason}; tools/grow.py is to grow it")
