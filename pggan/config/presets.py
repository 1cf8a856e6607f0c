"""The named settings, as one table. Every preset is a whole Config; a flag given by the user goes over it."""

from dataclasses import fields, is_dataclass, replace

from pggan.config.schema import PENALIZED, Config

# One row a setting that a preset changes, one column a preset; None: the field's own default.
# paper: Karras et al. 2018, appendix A, and their published code; its lr and batch hold for one GPU.
# Its average has a decay of 0.999 a step, which is a half-life of 693 batches.
PAPER_BATCH = "4:128,32:64,64:32,128:16,256:8,512:4"
PAPER_EMA = "4:88.7,32:44.34,64:22.17,128:11.09,256:5.542,512:2.771"
COLUMNS = ("paper", "cpu", "demo", "smoke")
TABLE = {
    # setting             paper                 cpu                    demo              smoke
    "fmap_base":         (8192,                 1024,                  512,              256),
    "fmap_max":          (512,                  64,                    64,               16),
    "latent":            (512,                  64,                    64,               32),
    "max_res":           (None,                 None,                  64,               None),
    "loss":              ("wgan-gp",            None,                  None,             None),
    "penalty_weight":           ("10",                 None,                  None,             None),
    "drift":             (0.001,                None,                  None,             None),
    "batch":             (PAPER_BATCH,          "16",                  "8",              "16,256:8"),
    "lr":                ("0.001,1024:0.0015",  "0.002",               "0.003",          "0.002"),
    "adam_at_growth":    ("reset",              None,                  None,             None),
    "warmup_kimg":       (0.0,                  1.0,                   0.5,              0.1),
    "ema_kimg":          (PAPER_EMA,            "5",                   "1",              "0.2"),
    "ema_rampup":          (0.0,                  None,                  None,             None),
    "fade_kimg":         ("600",                "5",                   "1",              "0.3"),
    "stable_kimg":       ("600",                "32:60,64:40,128:15",  "32:32,64:14",    "0.7,32:1"),
    "stage_minutes":     (None,                 None,                  "32:2.7,64:2.1",  None),
    "floor_kimg":        (None,                 None,                  4.0,              None),
    "builtin_images":  (None,                 None,                  1000,             256),
    "record_kimg":       (None,                 0.25,                  0.25,             0.1),
    "sample_kimg":       (10.0,                 1.0,                   1.0,              0.5),
    "eval_kimg":      (None,                 "32:10,64:5,128:3",    "64",             "0"),
}  # fmt: skip

NAMES = ("paintings", *COLUMNS)

# What a network and a loss bring with them, over the preset and under the flags: a setting that suits one is wrong or
# refused with another. dcgan: Radford et al. 2016, section 4; wgan: Arjovsky et al. 2017, algorithm 1; relativistic:
# gamma falls by four with each halving, as a quarter of the squared gradient is left by mean pooling.
ARCH_TABLE = {
    "paper": {"residual": False, "critic_norm": "none"},
    "style": {"residual": False, "critic_norm": "none"},
    "dcgan": {"lr": "0.0002", "beta1": 0.5, "beta2": 0.999, "stddev_group": 0, "critic_norm": "batch"},
}
ARCH_LOSS = {"dcgan": "bce"}  # where no other is asked for
LOSS_TABLE = {
    # loss            penalty                      drift   clip
    "logistic":      ("32:0.3,64:1,128:3,256:10",  0.0,    0.0),
    "wgan-gp":       ("10",                        0.001,  0.0),
    "relativistic":  ("32:0.25,64:1,128:4,256:16", 0.0,    0.0),
    "bce":           ("0",                         0.0,    0.0),
    "lsgan":         ("0",                         0.0,    0.0),
    "hinge":         ("0",                         0.0,    0.0),
    "wgan":          ("0",                         0.0,    1.0),
}  # fmt: skip
DCGAN_CLIP = 0.01  # of its unscaled weights, as published; 1 bounds an equalized layer at its initial spread


def preset(name: str = "paintings", arch: str | None = None, loss: str | None = None) -> Config:
    """The Config of that name; `paintings` is every field's own default.

    arch, loss: when one is asked for that is not the preset's own, what it brings goes over the preset.
    """
    config = Config()
    if name != "paintings":
        column = COLUMNS.index(name)
        changes = {setting: row[column] for setting, row in TABLE.items() if row[column] is not None}
        config = with_settings(replace(config, preset=name), changes)
    return suited(config, arch, loss)


def suited(config: Config, arch: str | None = None, loss: str | None = None) -> Config:
    """`config` with another arch or loss, and with all that these bring with them."""
    new_arch, new_loss = arch or config.network.arch, loss or config.training.loss
    if new_arch != config.network.arch and loss is None:
        new_loss = ARCH_LOSS.get(new_arch, new_loss)
    changes = {"arch": new_arch, "loss": new_loss}
    if new_arch != config.network.arch:
        changes |= ARCH_TABLE[new_arch]
    if new_loss != config.training.loss:
        changes |= dict(zip(("penalty_weight", "drift", "clip"), LOSS_TABLE[new_loss], strict=True))
    if new_loss == "wgan" and new_arch == "dcgan" and len(changes) > 2:
        changes |= {"clip": DCGAN_CLIP, "beta1": 0.0}  # a critic so bounded is unstable with momentum, section 4.3
    if new_arch == "dcgan" and new_loss in PENALIZED and len(changes) > 2:
        changes["critic_norm"] = "layer"
    return with_settings(config, changes)


def with_settings(config: Config, changes: dict[str, object]) -> Config:
    """`config` with settings changed by their flag names, wherever in the tree they are."""
    parts = {}
    for item in fields(config):
        part = getattr(config, item.name)
        own = [f.name for f in fields(part)] if is_dataclass(part) else []
        parts[item.name] = replace(part, **{name: changes[name] for name in own if name in changes}) if own else part
    return replace(config, **parts)
