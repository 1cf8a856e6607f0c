"""Settings that change with the resolution: one value, `16`, or pairs RES:VALUE, `32:64,128:16`."""

from dataclasses import dataclass

from pggan.errors import UserError, refuse_if

LARGEST = 1e12  # of any number in the settings: anything above is a typing error


@dataclass(frozen=True)
class PerResolution:
    """A number for each resolution, parsed once.

    values: (resolution, value) pairs, smallest resolution first. A value holds from its resolution up to the next
    pair; the first one also holds below it. str() gives the text that `parse` reads.
    """

    values: tuple[tuple[int, float], ...]

    @classmethod
    def parse(cls, text: str | float) -> "PerResolution":
        """Reads `16` or `32:64,128:16`, with values from 0 to LARGEST. Raises UserError for anything else."""
        pairs = [part.rpartition(":") for part in str(text).split(",")]
        try:
            values = {int(res or 0): float(value) for res, _, value in pairs}
        except ValueError:
            raise UserError(f"'{text}' is neither a number nor RES:VALUE pairs such as 32:64,128:16") from None
        refuse_if(len(values) != len(pairs), f"'{text}' gives two values for one resolution")
        refuse_if(min(values) < 0, f"'{text}' names a negative resolution")
        inside = all(0 <= value <= LARGEST for value in values.values())
        refuse_if(not inside, f"'{text}' has a value that is not a number from 0 to {LARGEST:g}")
        return cls(tuple(sorted(values.items())))

    def at(self, res: int) -> float:
        """Returns the value at resolution `res`, in pixels of the shorter side."""
        known = [value for start, value in self.values if start <= res]
        return known[-1] if known else self.values[0][1]

    def fading(self, res: int, alpha: float) -> float:
        """Returns the value during the fade to `res`: geometric interpolation from the value at half of `res`."""
        before, after = self.at(res // 2), self.at(res)
        return before ** (1 - alpha) * after**alpha if before > 0 and after > 0 else after

    def __bool__(self) -> bool:
        """Whether any value is above 0."""
        return any(value for _, value in self.values)

    def __str__(self) -> str:
        return ",".join(f"{res}:{_shortest(value)}" if res else _shortest(value) for res, value in self.values)


def _shortest(value: float) -> str:
    """Returns the shortest text that float() reads back as exactly `value`."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)
