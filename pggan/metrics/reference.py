"""All that is measured of the real pictures, once: what samples are then scored against.

The reals are split. By the fitting ones spaces are fitted and neighborhoods drawn; the held-out ones, as many as
samples, say what a set as good as the reals scores. For copies all of them count: all are training pictures.

Shapes here: N real pictures, n of them held out; see spaces.py for features and diversity.py for points z.
"""

from dataclasses import dataclass, fields

import numpy as np

from pggan.errors import UserError
from pggan.metrics import spaces
from pggan.metrics.copies import find_copies, thumbnails
from pggan.metrics.diversity import Held, Space, fit_space, hold
from pggan.metrics.random_features import Balance, balance, filters_digest, of_images

VERSION = f"1 {spaces.VERSION} {filters_digest()[:12]}"  # raise the number when any figure changes
LEAST = 200  # real pictures
MOST_HELD = 500
MOST_FITTED = 1000  # for spaces and neighborhoods; all reals count for copies
MOST_RANDOM = 2000  # reals whose random features are kept
BASELINE = 250  # reals that are looked for among the others
PLAIN = ("order", "z", "thumbs", "likeness", "random")  # arrays as they are
SOFT = {"form": spaces.form, "learned": spaces.learned}  # the spaces in which deserted reals are looked for


@dataclass(frozen=True)
class Points:
    """A space, with the fitting reals [N', d] and the held-out ones [n, d] in it."""

    space: Space
    fitted: np.ndarray
    held: np.ndarray


@dataclass(frozen=True)
class Reference:
    """See `of`. order: the reals' numbers in random order, the held-out first, then the fitting ones."""

    order: np.ndarray
    space: Space
    z: np.ndarray
    """[N, d]: all reals by form."""
    held: Held
    soft: dict[str, Points]
    contrast: float
    """Mean contrast of the reals."""
    thumbs: np.ndarray
    """[N, 32, 32, 3]"""
    likeness: np.ndarray
    """Of up to 250 reals with the other real most like each."""
    balance: Balance
    random: np.ndarray
    """[N'', 512]: balanced random features, float32."""

    @classmethod
    def of(cls, reals: np.ndarray, seed: int = 0) -> "Reference":
        """The reference of reals uint8 [N, H, W, 3], which may be a memory map. Raises UserError below 200
        pictures, and when all look the same."""
        count = len(reals)
        if count < LEAST:
            raise UserError(f"variety can be measured against {LEAST} real pictures or more, and there are {count}")
        order = np.random.default_rng(seed).permutation(count)
        chosen = order[: min(MOST_HELD, count // 2) + MOST_FITTED]
        looked = _look(reals, np.isin(np.arange(count), chosen))
        place = np.cumsum(np.isin(np.arange(count), chosen)) - 1  # of a chosen picture among the chosen
        n = min(MOST_HELD, count // 2)
        held, fitted = order[:n], chosen[n:]
        space = fit_space(looked["form"][fitted])
        if not space.axes.any():
            raise UserError("variety cannot be measured against real pictures that all look the same")
        z = space(looked["form"])
        soft = {}
        for name in SOFT:
            features = looked[f"soft {name}"]
            own = fit_space(features[place[fitted]])
            soft[name] = Points(own, own(features[place[fitted]]), own(features[place[held]]))
        balanced = balance(looked["random"])
        some = held[:BASELINE]
        mirrored = space(spaces.features(reals[np.sort(some)][:, :, ::-1], spaces.form))[np.argsort(np.argsort(some))]
        alike = find_copies(looked["thumbs"][some], [z[some], mirrored], looked["thumbs"], z, some)
        return cls(
            order=order,
            space=space,
            z=z,
            held=hold(z[held]),
            soft=soft,
            contrast=float(looked["contrast"].mean()),
            thumbs=looked["thumbs"],
            likeness=alike.likeness,
            balance=balanced,
            random=balanced(looked["random"])[place[chosen[:MOST_RANDOM]]].astype(np.float32),
        )

    @property
    def count(self) -> int:
        """n, the held-out reals."""
        return min(MOST_HELD, len(self.order) // 2)

    @property
    def held_z(self) -> np.ndarray:
        return self.z[self.order[: self.count]]

    @property
    def fitted_z(self) -> np.ndarray:
        return self.z[self.order[self.count : self.count + MOST_FITTED]]

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as plain arrays; `from_arrays` is the inverse, bit for bit."""
        out = {name: getattr(self, name) for name in PLAIN}
        out |= {"balance mean": self.balance.mean, "balance factors": self.balance.factors}
        out |= {"contrast": np.array(self.contrast), "mean": self.space.mean, "axes": self.space.axes}
        out |= {f"held {item.name}": np.asarray(getattr(self.held, item.name)) for item in fields(Held)}
        for name, points in self.soft.items():
            parts = {"mean": points.space.mean, "axes": points.space.axes, "fitted": points.fitted, "held": points.held}
            out |= {f"soft {name} {part}": value for part, value in parts.items()}
        return out

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Reference":
        """The Reference that `arrays` came from."""
        held = {item.name: arrays[f"held {item.name}"] for item in fields(Held)}
        held = Held(**{name: value if value.ndim else float(value) for name, value in held.items()})
        soft = {}
        for name in SOFT:
            mean, axes, fitted, kept = (arrays[f"soft {name} {part}"] for part in ("mean", "axes", "fitted", "held"))
            soft[name] = Points(Space(mean, axes), fitted, kept)
        plain = {name: arrays[name] for name in PLAIN}
        space, contrast = Space(arrays["mean"], arrays["axes"]), float(arrays["contrast"])
        balanced = Balance(arrays["balance mean"], arrays["balance factors"])
        return cls(space=space, held=held, soft=soft, contrast=contrast, balance=balanced, **plain)


def _look(reals: np.ndarray, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """What is needed of each picture in one pass: form and thumbnails of all, the rest of the chosen ones [N]."""
    parts: dict[str, list[np.ndarray]] = {}
    start = 0
    for images in spaces.batches(reals):
        wanted = images[chosen[start : start + len(images)]]
        start += len(images)
        found = {"form": spaces.form(images).double().numpy(), "thumbs": thumbnails(images)}
        if len(wanted):
            soft = spaces.softened(wanted)
            found |= {f"soft {name}": space(soft).double().numpy() for name, space in SOFT.items()}
            found |= {"random": of_images(wanted).double().numpy(), "contrast": spaces.contrast(wanted).numpy()}
        for name, value in found.items():
            parts.setdefault(name, []).append(value)
    return {name: np.concatenate(values) for name, values in parts.items()}
