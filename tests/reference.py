"""A second implementation of the networks and losses, slow and obvious: float64 numpy, loops, no layer classes.

Written from the published descriptions (Karras et al. 2018 and its code, 2019, 2020; Radford et al. 2016), as a
second opinion for the tests. Weights come as {name: array}; images are [N, 3, H, W].
"""

import math

import numpy as np

FMAP_BASE, FMAP_MAX, LATENT = 8192, 512, 512


def channels(res: int) -> int:
    """Feature maps at `res` pixels, for networks that start at 4 px."""
    stage = math.log2(res) - 1
    return int(min(FMAP_BASE / 2**stage, FMAP_MAX))


def conv_count(fan: int, out: int, kernel: int) -> int:
    return fan * out * kernel * kernel + out


def generator_count(res: int, rgb_layers: int = 1) -> int:
    """How many parameters the published generator has at `res`, with its newest `rgb_layers` toRGB layers."""
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
    """Image i is compared with i + M, i + 2M, i + 3M, where M is the number of groups."""
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
    return last_layers(weights, x, group)


def last_layers(weights, x, group):
    """From the base grid to logits [N], in paper and in style."""
    sqrt2 = np.sqrt(2)
    x = minibatch_stddev(x, group) if group else x
    x = lrelu(conv(x, weights["output.conv.weight"], weights["output.conv.bias"], sqrt2))
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


def squared_gradient_norm(critic, image):
    """The squared norm of the gradient of critic([image]), over channels and pixels."""
    return (slope(critic, image) ** 2).sum()


def softplus(x):
    """log(1 + e^x), as a cross entropy has it: minus the logarithm of the probability of being wrong by x."""
    return -math.log(1 / (1 + math.exp(x)))


LOSSES = ("logistic", "bce", "wgan-gp", "wgan", "relativistic", "lsgan", "hinge")  # those that are known here


def discriminator_loss(name, critic, reals, fakes, mix, weight, drift=0.0):
    """Image by image. critic: [N, 3, H, W] -> [N]; images must not influence each other's logits."""
    total = 0.0
    for real, fake, t in zip(reals, fakes, mix, strict=True):
        on_real, on_fake = critic(real[None])[0], critic(fake[None])[0]
        if name in ("logistic", "bce"):
            total += softplus(-on_real) + softplus(on_fake)
        elif name in ("wgan-gp", "wgan"):
            total += on_fake - on_real
        elif name == "relativistic":
            total += softplus(on_fake - on_real)
        elif name == "lsgan":
            total += (on_real - 1) ** 2 / 2 + on_fake**2 / 2
        elif name == "hinge":
            total += max(0, 1 - on_real) + max(0, 1 + on_fake)
        else:
            raise KeyError(name)
        total += drift * on_real**2
        if weight:
            total += weight * penalty(name, critic, real, fake, t)
    return total / len(reals)


def penalty(name, critic, real, fake, t):
    """Of one real and one fake: one-centered between them (wgan-gp), R1 (logistic), R1 + R2 (relativistic)."""
    if name == "wgan-gp":
        return (math.sqrt(squared_gradient_norm(critic, real + t * (fake - real))) - 1) ** 2
    if name == "logistic":
        return squared_gradient_norm(critic, real) / 2
    if name != "relativistic":
        raise KeyError(name)
    return squared_gradient_norm(critic, real) / 2 + squared_gradient_norm(critic, fake) / 2


def generator_loss(name, critic, fakes, reals):
    total = 0.0
    for real, fake in zip(reals, fakes, strict=True):
        on_real, on_fake = critic(real[None])[0], critic(fake[None])[0]
        if name in ("logistic", "bce"):
            total += softplus(-on_fake)
        elif name in ("wgan-gp", "wgan", "hinge"):
            total += -on_fake
        elif name == "relativistic":
            total += softplus(on_real - on_fake)
        elif name == "lsgan":
            total += (on_fake - 1) ** 2 / 2
        else:
            raise KeyError(name)
    return total / len(reals)


# ---- style: Karras et al. 2019 and 2020, an image at a time


FIR = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64  # 2020, appendix B; sums to 1


def extended(x, margin):
    """The image with its edge pixels repeated `margin` times."""
    return np.pad(x, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="edge")


def fir_double(x):
    """Puts zeros between the pixels, then filters; times 4, because three pixels in four are 0."""
    n, c, h, w = x.shape
    x = extended(x, 2)
    sparse = np.zeros((n, c, 2 * (h + 4), 2 * (w + 4)))
    sparse[:, :, ::2, ::2] = x
    out = np.zeros((n, c, 2 * h, 2 * w))
    for row in range(2 * h):
        for column in range(
            2 * w
        ):  # pixel 0 lies at 4 of the sparse grid; the filter's middle between its taps 1 and 2
            window = sparse[:, :, row + 2 : row + 6, column + 2 : column + 6]
            out[:, :, row, column] = (window * 4 * FIR).sum(axis=(2, 3))
    return out


def fir_halve(x):
    n, c, h, w = x.shape
    x = extended(x, 1)
    out = np.zeros((n, c, h // 2, w // 2))
    for row in range(h // 2):
        for column in range(w // 2):
            out[:, :, row, column] = (x[:, :, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] * FIR).sum(
                axis=(2, 3)
            )
    return out


def style_conv(weights, name, x, w, demodulate):
    """2020, equations 1 to 3: each image has its own weights."""
    style = dense(w, weights[name + ".style.weight"], weights[name + ".style.bias"], 1)
    kernel = weights[name + ".conv.weight"]
    scaled = kernel / np.sqrt(np.prod(kernel.shape[1:]))
    out = []
    for image, factors in zip(x, style, strict=True):
        own = scaled * factors[None, :, None, None]
        if demodulate:
            own = own / np.sqrt((own**2).sum(axis=(1, 2, 3), keepdims=True) + 1e-8)
        gain = np.sqrt(np.prod(own.shape[1:]))  # conv() divides by it
        out.append(conv(image[None], own, np.zeros(len(own)), gain)[0])
    return np.stack(out)


def style_layer(weights, name, x, w, noise):
    y = style_conv(weights, name + ".conv", x, w, demodulate=True)
    if noise is not None:
        y = y + weights[name + ".noise"] * noise
    return np.sqrt(2) * lrelu(y + weights[name + ".bias"][None, :, None, None])


def style_mapping(weights, z):
    w = pixelnorm(z)
    for name in ("input.dense0", "input.dense1"):
        w = lrelu(dense(w, 0.01 * weights[name + ".weight"], 0.01 * weights[name + ".bias"], np.sqrt(2)))
    return w


def style_generator(weights, z, sizes, grid, alpha, noise=None):
    """noise: [N, ...] numbers, two maps per resolution, from the base up."""
    width, height = grid
    w, image = style_mapping(weights, z), None
    x = np.stack([weights["input.constant"]] * len(z))
    for size in sizes:
        maps = [None, None]
        if noise is not None:
            pixels = width * height
            maps = [part.reshape(-1, 1, height, width) for part in (noise[:, :pixels], noise[:, pixels : 2 * pixels])]
            noise = noise[:, 2 * pixels :]
        if size == sizes[0]:
            x = style_layer(weights, "input.conv", x, w, maps[0])
        else:
            x = style_layer(weights, f"blocks.{size}.conv0", fir_double(x), w, maps[0])
            x = style_layer(weights, f"blocks.{size}.conv1", x, w, maps[1])
        seen = style_conv(weights, f"rgb.{size}.conv", x, w, demodulate=False)
        seen = seen + weights[f"rgb.{size}.bias"][None, :, None, None]
        share = 1 if alpha is None or size != sizes[-1] else alpha
        image = seen if image is None else fir_double(image) + share * seen
        width, height = 2 * width, 2 * height
    return image


def style_discriminator(weights, image, sizes, alpha, group=4):
    sqrt2 = np.sqrt(2)

    def layer(name, x):
        return lrelu(conv(x, weights[name + ".weight"], weights[name + ".bias"], sqrt2))

    def block(size, x):
        name = f"blocks.{size}"
        y = fir_halve(layer(name + ".conv0", x))
        y = layer(name + ".conv1", y)
        return (y + conv(fir_halve(x), weights[name + ".skip.weight"], np.zeros(y.shape[1]), 1)) / sqrt2

    x = layer(f"rgb.{sizes[-1]}", image)
    for size in reversed(sizes[1:]):
        x = block(size, x)
        if size == sizes[-1] and alpha is not None:
            x = lerp(layer(f"rgb.{sizes[-2]}", fir_halve(image)), x, alpha)
    return last_layers(weights, x, group)


# ---- dcgan: Radford et al. 2016


def plain_conv(x, weight, bias, stride, pad):
    """A convolution by its definition, one output pixel at a time."""
    n, _, h, w = x.shape
    out, _, high, wide = weight.shape
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    rows, columns = (h + 2 * pad - high) // stride + 1, (w + 2 * pad - wide) // stride + 1
    y = np.zeros((n, out, rows, columns))
    for row in range(rows):
        for column in range(columns):
            window = x[:, :, row * stride : row * stride + high, column * stride : column * stride + wide]
            y[:, :, row, column] = np.einsum("nihw,oihw->no", window, weight)
    return y + (0 if bias is None else bias[None, :, None, None])


def transposed_conv(x, weight, stride, pad):
    """Adds the kernel times each input pixel to the output; weight: [fan, out, H, W]."""
    n, _, h, w = x.shape
    _, out, high, wide = weight.shape
    y = np.zeros((n, out, (h - 1) * stride + high, (w - 1) * stride + wide))
    for row in range(h):
        for column in range(w):
            stamp = np.einsum("ni,iohw->nohw", x[:, :, row, column], weight)
            y[:, :, row * stride : row * stride + high, column * stride : column * stride + wide] += stamp
    return y[:, :, pad : y.shape[2] - pad, pad : y.shape[3] - pad]


def norm(weights, name, x, kind):
    """batch: per feature map, over images and pixels; layer: per image, over maps and pixels."""
    if kind == "none":
        return x
    axes = {"batch": (0, 2, 3), "layer": (1, 2, 3)}[kind]
    x = (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + 1e-5)
    scale, shift = weights[name + ".norm.weight"], weights[name + ".norm.bias"]
    return x * scale[None, :, None, None] + shift[None, :, None, None]


def relu(x):
    return np.maximum(x, 0)


def dcgan_generator(weights, z, sizes, grid, alpha, residual=False):
    """In training mode: batch norm uses the statistics of these images."""
    x = transposed_conv(z[:, :, None, None], weights["input.conv.weight"], 1, 0)
    x = relu(norm(weights, "input.norm", x, "batch"))
    features = [x]
    for size in sizes[1:]:
        name = f"blocks.{size}"
        y = relu(norm(weights, name + ".norm", transposed_conv(x, weights[name + ".up.weight"], 2, 1), "batch"))
        if residual:
            y = norm(weights, name + ".norm1", plain_conv(y, weights[name + ".conv.weight"], None, 1, 1), "batch")
            y = relu(y + double(plain_conv(x, weights[name + ".skip.weight"], weights[name + ".skip.bias"], 1, 0)))
        features.append(x := y)

    def to_rgb(age):
        name = f"rgb.{sizes[-1 - age]}.conv"
        return np.tanh(plain_conv(features[-1 - age], weights[name + ".weight"], weights[name + ".bias"], 1, 1))

    return to_rgb(0) if alpha is None else lerp(double(to_rgb(1)), to_rgb(0), alpha)


def dcgan_discriminator(weights, image, sizes, alpha, kind="batch", residual=False, group=0):
    def from_rgb(size, x):
        return lrelu(plain_conv(x, weights[f"rgb.{size}.conv.weight"], weights[f"rgb.{size}.conv.bias"], 1, 0))

    x = from_rgb(sizes[-1], image)
    for size in reversed(sizes[1:]):
        name = f"blocks.{size}"
        y = plain_conv(x, weights[name + ".down.weight"], weights.get(name + ".down.bias"), 2, 1)
        y = lrelu(norm(weights, name + ".norm", y, kind))
        if residual:
            y = plain_conv(y, weights[name + ".conv.weight"], weights.get(name + ".conv.bias"), 1, 1)
            skip = plain_conv(halve(x), weights[name + ".skip.weight"], weights[name + ".skip.bias"], 1, 0)
            y = lrelu(norm(weights, name + ".norm1", y, kind) + skip)
        x = y
        if size == sizes[-1] and alpha is not None:
            x = lerp(from_rgb(sizes[-2], halve(image)), x, alpha)
    x = minibatch_stddev(x, group) if group else x
    return plain_conv(x, weights["output.conv.weight"], weights["output.conv.bias"], 1, 0).reshape(len(x))


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
