"""Medians, ratios with their spread, and tables of images per second."""

from dataclasses import asdict, dataclass
from statistics import median

KINDS = ("as they come", "same precision", "each at its best")


@dataclass(frozen=True)
class Speed:
    """A side in a match. roles: the kinds of comparison that use it. images_per_s: one value a round."""

    side: str
    variant: str
    roles: tuple[str, ...]
    images_per_s: list[float]

    @property
    def median(self) -> float:
        return median(self.images_per_s)

    @property
    def spread(self) -> str:
        return f"{min(self.images_per_s):.3g} to {max(self.images_per_s):.3g}"


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as theirs ours is. value: ratio of the medians; least, most: over the rounds."""

    kind: str
    ours: str
    theirs: str
    value: float
    least: float
    most: float


def ratio(kind: str, ours: Speed, theirs: Speed) -> Ratio:
    """The ratio of two speeds. Raises ValueError when they have different numbers of rounds."""
    rounds = [mine / other for mine, other in zip(ours.images_per_s, theirs.images_per_s, strict=True)]
    return Ratio(kind, ours.variant, theirs.variant, ours.median / theirs.median, min(rounds), max(rounds))


def ratios(speeds: list[Speed], peer: str) -> list[Ratio]:
    """The ratio of each kind of comparison."""
    found = {(speed.side == peer, role): speed for speed in speeds for role in speed.roles}
    return [ratio(kind, found[False, kind], found[True, kind]) for kind in KINDS]


@dataclass(frozen=True)
class Match:
    """Ours and a peer at one resolution and alpha. failed: choices that did not run, with the reason."""

    peer: str
    res: int
    alpha: float
    loss: str
    speeds: list[Speed]
    failed: list[str]

    @property
    def ratios(self) -> list[Ratio]:
        return ratios(self.speeds, self.peer)

    def as_json(self) -> dict:
        return {**asdict(self), "ratios": [asdict(one) for one in self.ratios]}

    def lines(self) -> list[str]:
        """Two plain-text tables: the speeds, then the ratios."""
        fade = f", alpha {self.alpha:g}" if self.alpha < 1 else ""
        rounds = len(self.speeds[0].images_per_s)
        head = f"{self.res} px{fade}, ours ({self.loss}) beside {self.peer}: images/s, median (range), {rounds} rounds"
        rows = [
            f"  {speed.side:<16} {speed.variant:<28} {speed.median:9.4g}   ({speed.spread})" for speed in self.speeds
        ]
        rows += [
            f"  {one.kind:<16} {one.value:5.2f}x   ({one.least:.2f} to {one.most:.2f})   {one.ours} over {one.theirs}"
            for one in self.ratios
        ]
        return [head, *rows]


def work_lines(rows: list[dict]) -> list[str]:
    """A table: sizes of the networks and operations of a step, one row a side."""
    head = (
        f"{'':<16} {'res':>4} {'loss':<13} {'M weights, G and D':>18} {'GFLOP, G and D':>16} {'a step, an image':>17}"
    )
    lines = [head]
    for row in rows:
        weights = f"{row['parameters_g'] / 1e6:9.3f} {row['parameters_d'] / 1e6:8.3f}"
        forward = f"{row['flop_g'] / 1e9:8.3f} {row['flop_d'] / 1e9:7.3f}"
        name = f"{row['side']:<16} {row['res']:>4} {row['loss']:<13}"
        lines.append(f"{name} {weights} {forward} {row['flop_step'] / 1e9:17.3f}")
    return lines
