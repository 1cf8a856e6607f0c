"""The histogram of kinds (classes or tags) among samples, and which kinds are missing.

In a space that separates the kinds, the real images nearest to a sample vote for its kind. Votes err: some kinds are
mistaken for others. How often is measured on the reals: the shares q of the kinds are those that explain the mean votes
p of the samples by the mean votes C of the reals of each kind, C q = p (black-box shift estimation, Lipton et al.
2018). All of this is linear in the votes, so the intervals are sums of variances.

Shapes here: N reals, n samples, D features, K kinds that are frequent enough among the reals to be measured.
"""

import csv
import difflib
import os
from dataclasses import dataclass, replace

import numpy as np
import torch

from pggan.errors import UserError, plain
from pggan.metrics import small_images, spaces
from pggan.metrics.neighbors import nearest

VERSION = f"1 {spaces.VERSION}"  # raise the number when `features` change
MOST_REALS = 5000  # more are not compared
VOTES = 15  # nearest reals that vote on an image; 5 are too few where kinds are hard to tell apart
LEAST, LEAST_SHARE = 10, 0.01  # reals of a kind, and their share, below which the kind is not measured
PENALTIES = np.geomspace(1e-3, 1e3, 13)  # tried in ridge regression, times the mean squared singular value
FLOOR = 1e-3  # added to each feature's standard deviation, times the mean of them all
SURE = 1.96  # standard errors of a 95 % interval
MISSING, SURELY = 0.25, 0.5  # of its real share: a kind is missing if its share and its interval are below these
NONE_SEEN = 3.0  # upper 95 % bound on the count of something never seen ("rule of three")


@dataclass(frozen=True)
class Kind:
    """One kind. share, low, high: its share of the samples, with a 95 % interval; None if it cannot be measured.

    status: present, missing, or why it cannot be measured: rare (among the reals) or unclear (taken for other kinds).
    """

    name: str
    real_share: float
    share: float | None
    low: float | None
    high: float | None
    status: str


@dataclass(frozen=True)
class Labels:
    """The kind of each real. numbers: int64 [N], places in `names`, or -1 for none. of: the title of the kinds."""

    of: str
    numbers: np.ndarray
    names: list[str]


def read_tags(path: str, images: list[str], columns: list[str] | None = None) -> list[Labels]:
    """The kinds of the images in each of `columns` of a table; None: in all columns.

    images: their names. The table is comma-separated: names of columns first, then in each line an image's name and its
    tags; an empty tag is no tag. Raises UserError for another kind of file, an unknown column, or unknown images only.
    """
    header, *rows = _table(path)
    for name in columns or []:
        if name not in header[1:]:
            near = difflib.get_close_matches(name, header[1:], n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(map(plain, header[1:]))}"
            raise UserError(f"{plain(path)} has no column {plain(name)}; {hint}")
    by_name = {row[0]: row for row in rows}
    known = [by_name.get(name) for name in images]
    if not any(known):
        first = f"its first column says {plain(rows[0][0])}, say, where a picture is {plain(images[0])}"
        raise UserError(f"{plain(path)} names none of the pictures: {first}")
    found = []
    for name in columns or header[1:]:
        place = header.index(name)
        tags = [row[place].strip() if row else "" for row in known]
        names = sorted(set(tags) - {""})
        numbers = {tag: number for number, tag in enumerate(names)}
        found.append(Labels(name, np.array([numbers.get(tag, -1) for tag in tags], np.int64), names))
    return found


def _table(path: str) -> list[list[str]]:
    """The lines of a table, the names of the columns first."""
    try:
        with open(os.path.expanduser(path), newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{plain(path)} is no table of comma-separated text ({plain(error)})") from None
    if len(rows) < 2 or len(rows[0]) < 2 or any(len(row) != len(rows[0]) for row in rows):
        raise UserError(f"{plain(path)} is no table: names of columns first, and as many values in every other line")
    return rows


def features(pixels: np.ndarray, contrast: float | None = None) -> np.ndarray:
    """float32 [N, D] of images uint8 [N, H, W, 3] in all of `spaces.modes`, side by side: [N, 950].

    Fine detail, which is a matter of quality, is taken out. contrast: the mean contrast to bring the images to.
    """
    factor = 1.0 if contrast is None else small_images.contrast_factor(pixels, contrast)
    found = (spaces.mode_features(images, contrast=factor) for images in small_images.batches(pixels))
    return np.concatenate([torch.cat([*each.values()], dim=1).numpy() for each in found])


def histogram(reals: np.ndarray, kinds: Labels, fakes: np.ndarray) -> list[Kind]:
    """A Kind for each name in `kinds`, the labels of reals [N, D], with its share among fakes [n, D]."""
    labels, names = kinds.numbers, kinds.names
    sizes = np.bincount(labels[labels >= 0], minlength=len(names))
    total = max(1, sizes.sum())
    found = [Kind(name, float(size / total), None, None, None, "rare") for name, size in zip(names, sizes, strict=True)]
    kept = np.flatnonzero((sizes >= LEAST) & (sizes >= LEAST_SHARE * total))
    if len(kept) < 2:
        return found
    place = np.full(len(names) + 1, -1)  # the last one for labels of -1
    place[kept] = np.arange(len(kept))
    some = place[labels] >= 0
    for number, share, low, high, clear in zip(kept, *shares(reals[some], place[labels[some]], fakes), strict=True):
        real = found[number].real_share
        values = {"share": float(share), "low": float(low), "high": float(high)} if clear else {}
        status = "missing" if share < MISSING * real and high < SURELY * real else "present"
        found[number] = replace(found[number], **values, status=status if clear else "unclear")
    return found


def shares(reals: np.ndarray, labels: np.ndarray, fakes: np.ndarray) -> tuple[np.ndarray, ...]:
    """(share among the fakes, low, high, clear), each [K]. labels [N]: from 0 to K - 1, all of which occur.

    clear: whether a missing kind would be found missing. To know that, the reals are measured without the kind.
    """
    real_votes, fake_votes = votes(reals, labels, fakes)
    kinds = labels.max() + 1
    own = np.eye(kinds)[labels]  # (N, K)
    taken = own.T @ real_votes / own.sum(axis=0)[:, None]  # (K, K): row k is the mean votes of the reals of kind k
    solve = np.linalg.pinv(taken, rcond=1e-6)
    real, fake = real_votes @ solve, fake_votes @ solve  # each image's contribution; their mean is the shares
    spread = np.stack([real[labels == kind].var(axis=0) / (labels == kind).sum() for kind in range(kinds)])  # (K, K)
    share = fake.mean(axis=0)
    few = NONE_SEEN / len(fake) / np.maximum(taken.diagonal(), 1e-9)

    def reach(share: np.ndarray, variance: np.ndarray) -> np.ndarray:
        return SURE * np.sqrt(variance / len(fake) + share.clip(0) ** 2 @ spread)

    around = reach(share, fake.var(axis=0))
    low, high = (share - around).clip(0), np.maximum(share + around, few)
    usual = own.mean(axis=0)
    clear = np.empty(kinds, bool)
    for kind in range(kinds):
        others = real[labels != kind]
        rest = np.where(np.arange(kinds) == kind, 0, usual) / (1 - usual[kind])
        top = max(reach(rest, others.var(axis=0))[kind], few[kind])
        clear[kind] = top < SURELY * usual[kind]
    return share.clip(0, 1), low.clip(0, 1), high.clip(0, 1), clear


def votes(reals: np.ndarray, labels: np.ndarray, fakes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(votes of reals [N, K], of fakes [n, K]): the shares of the kinds among the 15 reals nearest to each image.

    A real does not influence its own votes: it is not its own neighbor, and its point comes from a fit without it.
    """
    own = np.eye(labels.max() + 1)[labels]
    real, fake = separated(reals, own, fakes)
    count = min(VOTES, len(reals) - 1)
    places = nearest(real, real, count, exclude_self=True)[1], nearest(fake, real, count)[1]
    return own[places[0]].mean(axis=1), own[places[1]].mean(axis=1)


def separated(reals: np.ndarray, own: np.ndarray, fakes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reals [N, K] and fakes [n, K] in a space that separates kinds: ridge regression of `own` [N, K] on the features.

    Each real is predicted by the regression that was fitted without it (exact leave-one-out). The penalty is the one
    with the least squared error of these predictions.
    """
    x, y = torch.from_numpy(reals).double(), torch.from_numpy(own)
    center, middle, scale = x.mean(dim=0), y.mean(dim=0), x.std(dim=0)
    scale = scale + FLOOR * scale.mean().clamp(min=1e-30)
    u, s, v = torch.linalg.svd((x - center) / scale, full_matrices=False)
    if not s.any():  # all reals are the same
        return np.zeros_like(own), np.zeros((len(fakes), own.shape[1]))
    wanted, best = u.T @ (y - middle), (torch.inf,)  # wanted: (r, K)
    for penalty in PENALTIES * max(1e-30, float(s.square().mean())):
        shrunk = s.square() / (s.square() + penalty)  # (r,)
        fitted, self_share = u @ (shrunk[:, None] * wanted), u.square() @ shrunk + 1 / len(x)
        left_out = y - (y - middle - fitted) / (1 - self_share).clamp(min=1e-6)[:, None]
        error = float((y - left_out).square().mean())
        if error < best[0]:
            best = error, penalty, left_out
    _, penalty, real = best
    weights = v.T @ ((s / (s.square() + penalty))[:, None] * wanted)  # (D, K)
    return real.numpy(), ((torch.from_numpy(fakes) - center) / scale @ weights + middle).numpy()
