"""The paper's networks and losses once more, slow and obvious: float64 numpy, loops, no layer classes.

Written from the published description (Karras et al. 2018 and its code), as a second opinion for the tests. Weights
come as {name: array}; images are [N, 3, H, W].
"""

import math

import numpy as np

FMAP_BASE, FMAP_MAX, LATENT = 8192, 512, 512


def channels(res: int) -> int:
    """Feature maps at `res` pixels, for a ladder that begins at 4."""
    stage = math.log2(res) - 1
    return int(min(FMAP_BASE / 2**stage, FMAP_MAX))


def conv_count(fan: int, out: int, kernel: int) -> int:
    return fan * out * kernel * kernel + out


def generator_count(res: int, rgb_layers: int = 1) -> int:
    """Numbers that the published generator holds at `res`, with its newest `rgb_layers` toRGB layers."""
    total = LATENT * channels(4) * 4 * 4 + channels(4)  # dense, its bias shared by the pixels of a map
    total += conv_count(channels(4), channels(4), 3)
    for size in doublings(8, res):
        total += conv_count(channels(size // 2), channels(size), 3) + conv_count(channels(size), channels(size), 3)
    return total + sum(conv_count(channels(res >> age), 3, 1) for age in range(rgb_layers))


def discriminator_count(res: int, rgb_layers: int = 1) -> int:
    total = conv_count(channels(4) + 1, channels(4), 3)  # one more map: minibatch stddev
    total += channels(4) * 4 * 4 * 512 + 512
    total += 512 * 1 + 1
    for size in doublings(8, res):
        total += conv_count(channels(size), channels(size), 3) + conv_count(channels(size), channels(size // 2), 3)
    return total + sum(conv_count(3, channels(res >> age), 1) for age in range(rgb_layers))


def doublings(first: int, last: int) -> list[int]:
    return [2**power for power in range(int(math.log2(first)), int(math.log2(last)) + 1)]


def lrelu(x):
    return np.where(x >= 0, x, 0.2 * x)


def pixelnorm(x, eps=1e-8):
    return x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + eps)


def conv(x, weight, bias, gain):
    """Every tap of the kernel in turn, on the zero-padded image."""
    _, fan, kernel, _ = weight.shape
    n, _, h, w = x.shape
    pad = kernel // 2
    padded = np.zeros((n, fan, h + 2 * pad, w + 2 * pad))
    padded[:, :, pad : pad + h, pad : pad + w] = x
    out = np.zeros((n, weight.shape[0], h, w))
    for dy in range(kernel):
        for dx in range(kernel):
            window = padded[:, :, dy : dy + h, dx : dx + w]
            out += np.einsum("nihw,oi->nohw", window, weight[:, :, dy, dx])
    return out * (gain / np.sqrt(fan * kernel * kernel)) + bias[None, :, None, None]


def dense(x, weight, bias, gain):
    return x @ weight.T * (gain / np.sqrt(weight.shape[1])) + bias


def double(x):
    """Every pixel becomes a 2x2 square."""
    n, c, h, w = x.shape
    out = np.zeros((n, c, 2 * h, 2 * w))
    for y in range(2 * h):
        for column in range(2 * w):
            out[:, :, y, column] = x[:, :, y // 2, column // 2]
    return out


def halve(x):
    """Every 2x2 square becomes its mean."""
    n, c, h, w = x.shape
    out = np.zeros((n, c, h // 2, w // 2))
    for y in range(h // 2):
        for column in range(w // 2):
            out[:, :, y, column] = x[:, :, 2 * y : 2 * y + 2, 2 * column : 2 * column + 2].mean(axis=(2, 3))
    return out


def minibatch_stddev(x, group=4):
    """Picture i is compared with i + M, i + 2M, i + 3M, where M is the number of groups."""
    n, _, h, w = x.shape
    number = n // min(group, n)
    extra = np.zeros((n, 1, h, w))
    for first in range(number):
        members = list(range(first, n, number))
        together = x[members]
        variance = ((together - together.mean(axis=0)) ** 2).sum(axis=0) / len(members)
        extra[members] = np.sqrt(variance + 1e-8).mean()
    return np.concatenate([x, extra], axis=1)


def lerp(a, b, alpha):
    return a + (b - a) * alpha


def fade(image, alpha):
    """A real picture as the discriminator sees it in a fade."""
    return lerp(double(halve(image)), image, alpha)


def generator(weights, z, sizes, grid, alpha):
    """sizes: the resolutions from the base up; grid: (width, height) of the base; alpha None: there is no fade."""
    width, height = grid
    sqrt2 = np.sqrt(2)
    fmaps = len(weights["input.bias"])
    x = dense(pixelnorm(z), weights["input.dense.weight"], 0, sqrt2 / 4).reshape(-1, fmaps, height, width)
    x = pixelnorm(lrelu(x + weights["input.bias"][None, :, None, None]))
    x = pixelnorm(lrelu(conv(x, weights["input.conv.weight"], weights["input.conv.bias"], sqrt2)))
    features = [x]
    for size in sizes[1:]:
        x = double(x)
        for name in (f"blocks.{size}.conv0", f"blocks.{size}.conv1"):
            x = pixelnorm(lrelu(conv(x, weights[name + ".weight"], weights[name + ".bias"], sqrt2)))
        features.append(x)

    def to_rgb(age):
        name = f"rgb.{sizes[-1 - age]}"
        return conv(features[-1 - age], weights[name + ".weight"], weights[name + ".bias"], 1)

    return to_rgb(0) if alpha is None else lerp(double(to_rgb(1)), to_rgb(0), alpha)


def discriminator(weights, image, sizes, alpha, group=4):
    sqrt2 = np.sqrt(2)

    def layer(name, x):
        return lrelu(conv(x, weights[name + ".weight"], weights[name + ".bias"], sqrt2))

    def block(size, x):
        return halve(layer(f"blocks.{size}.conv1", layer(f"blocks.{size}.conv0", x)))

    x = layer(f"rgb.{sizes[-1]}", image)
    for size in reversed(sizes[1:]):
        x = block(size, x)
        if size == sizes[-1] and alpha is not None:
            x = lerp(layer(f"rgb.{sizes[-2]}", halve(image)), x, alpha)
    x = layer("output.conv", minibatch_stddev(x, group))
    x = x.reshape(len(x), -1)
    x = lrelu(dense(x, weights["output.dense0.weight"], weights["output.dense0.bias"], sqrt2))
    return dense(x, weights["output.dense1.weight"], weights["output.dense1.bias"], 1)[:, 0]


def slope(critic, image, step=1e-5):
    """Gradient of critic([image]) by central differences, one pixel at a time."""
    out = np.zeros_like(image)
    for place in np.ndindex(image.shape):
        up, down = image.copy(), image.copy()
        up[place] += step
        down[place] -= step
        out[place] = (critic(up[None])[0] - critic(down[None])[0]) / (2 * step)
    return out


def wgan_gp(critic, reals, fakes, mix, weight, drift):
    """The discriminator's loss, picture by picture. critic: [N, 3, H, W] -> [N], no talk among the pictures."""
    total = 0.0
    for real, fake, t in zip(reals, fakes, mix, strict=True):
        on_real, on_fake = critic(real[None])[0], critic(fake[None])[0]
        length = np.sqrt((slope(critic, real + t * (fake - real)) ** 2).sum())
        total += on_fake - on_real + weight * (length - 1) ** 2 + drift * on_real**2
    return total / len(reals)


def logistic_r1(critic, reals, fakes, gamma):
    total = 0.0
    for real, fake in zip(reals, fakes, strict=True):
        on_real, on_fake = critic(real[None])[0], critic(fake[None])[0]
        right_real, right_fake = 1 / (1 + math.exp(-on_real)), 1 / (1 + math.exp(on_fake))
        total -= math.log(right_real) + math.log(right_fake)
        total += gamma / 2 * (slope(critic, real) ** 2).sum()
    return total / len(reals)


class Adam:
    """Kingma and Ba 2015, algorithm 1, for one array."""

    def __init__(self, beta1, beta2, eps):
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.t, self.m, self.v = 0, 0.0, 0.0

    def step(self, weight, gradient, lr):
        self.t += 1
        self.m = self.beta1 * self.m + (1 - self.beta1) * gradient
        self.v = self.beta2 * self.v + (1 - self.beta2) * gradient**2
        corrected_m = self.m / (1 - self.beta1**self.t)
        corrected_v = self.v / (1 - self.beta2**self.t)
        return weight - lr * corrected_m / (np.sqrt(corrected_v) + self.eps)
