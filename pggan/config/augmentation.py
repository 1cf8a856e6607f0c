"""The setting `--augment`: which augmentations are on, and how strong each is. No torch here."""

from contextlib import suppress
from dataclasses import dataclass, fields

from pggan.errors import refuse_if


@dataclass(frozen=True)
class Augmentation:
    """The strength of each augmentation, 0 (off) to 1, in the order in which they are applied (training/augment.py).

    An image gets an augmentation with probability p * strength.
    """

    color: float = 0.0
    flip: float = 0.0
    vflip: float = 0.0
    turns: float = 0.0
    translation: float = 0.0
    cutout: float = 0.0

    def strengths(self) -> dict[str, float]:
        """{name: strength} of the augmentations that are on."""
        return {item.name: getattr(self, item.name) for item in fields(self) if getattr(self, item.name)}

    def __bool__(self) -> bool:
        return bool(self.strengths())


AUGMENTATION_NAMES = tuple(item.name for item in fields(Augmentation))
ORIENTING = ("flip", "vflip", "turns")  # these hide which way up an image was


def augmentation(text: str) -> Augmentation:
    """Reads `"translation:0.8,color:0.3"`; a name alone has strength 1; `"none"` is none. Raises UserError."""
    strengths = {}
    for part in text.split(",") if text.strip() != "none" else ():
        name, colon, number = (word.strip() for word in part.partition(":"))
        known = ", ".join(AUGMENTATION_NAMES)
        refuse_if(name not in AUGMENTATION_NAMES, f"--augment: there is no {name!r}; give {known}, or none alone")
        refuse_if(name in strengths, f"--augment names {name} twice")
        strengths[name] = -1.0
        with suppress(ValueError):
            strengths[name] = float(number) if colon else 1.0
        good = 0 < strengths[name] <= 1  # nan is not
        refuse_if(not good, f"--augment {name}:{number} is no strength: above 0 and at most 1, or leave {name} out")
    return Augmentation(**strengths)
