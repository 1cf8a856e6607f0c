"""The presets, architectures and losses, and the settings of each. Only this file lists their names.

None stands for the default of the field in schema.py. The user's flags replace these settings.
"""

# Sources of "paper": Karras et al. 2018, appendix A, and their published code, with the lr and batch of one GPU.
# Its G_ema has a decay of 0.999 per step, which is a half-life of 693 batches.
PAPER_BATCH = "4:128,32:64,64:32,128:16,256:8,512:4"
PAPER_LR = "0.001,1024:0.0015"
PAPER_EMA = "4:88.7,32:44.34,64:22.17,128:11.09,256:5.542,512:2.771"

# Keeps D from memorizing few pictures. Without color, which makes colors drift beside heads on features.
MOVE_AND_CUT = "translation:0.8,cutout:0.8"

# "paintings" has not been run yet, for lack of a GPU; the README of experiments/evening has its times, computed.
TO_FULL_SIZE = "32:64,64:96,128:128,256:256"
LONG = "32:300,64:450,128:600,256:900"

PRESETS = ("paintings", "paper", "cpu", "demo", "smoke")
PRESET_TABLE = {
    # setting           paintings                    paper        cpu                    demo             smoke
    "arch":            ("style",                     None,        "style",               None,            None),
    "features":        ("efficientnet-lite0",        None,        "efficientnet-lite0",  None,            None),
    "features_res":    (TO_FULL_SIZE,                None,        "32:64,64:96,128:128", None,            None),
    "d_width":         (None,                        None,        0.5,                   None,            None),
    "d_interval":      ("32:8,64:4,128:2",           None,        "32:16,64:4",          None,            None),
    "augment":         (MOVE_AND_CUT,                None,        MOVE_AND_CUT,          None,            None),
    "fmap_base":       (None,                        8192,        1024,                  512,             256),
    "fmap_max":        (None,                        512,         64,                    64,              16),
    "latent":          (None,                        512,         64,                    64,              32),
    "max_res":         (None,                        None,        None,                  64,              None),
    "loss":            (None,                        "wgan-gp",   None,                  None,            None),
    "penalty_weight":  (None,                        "10",        None,                  None,            None),
    "penalty_interval": (4,                          None,        8,                     None,            None),
    "drift":           (None,                        0.001,       None,                  None,            None),
    "processes":       (None,                        None,        0,                     0,               None),
    "batch":           ("32:32,128:16",              PAPER_BATCH, "8",                   "8",             "16,256:8"),
    "lr":              (None,                        PAPER_LR,    "0.002",               "0.003",         "0.002"),
    "adam_at_growth":  (None,                        "reset",     None,                  None,            None),
    "warmup_kimg":     (None,                        0.0,         1.0,                   0.5,             0.1),
    "ema_kimg":        (None,                        PAPER_EMA,   "5",                   "1",             "0.2"),
    "ema_rampup":      (None,                        0.0,         None,                  None,            None),
    "fade_kimg":       ("50",                        "600",       "5",                   "1",             "0.3"),
    "stable_kimg":     (LONG,                        "600",       "32:30,64:30,128:15",  "32:32,64:14",   "0.7,32:1"),
    "stage_minutes":   (None,                        None,        None,                  "32:2.7,64:2.1", None),
    "floor_kimg":      (None,                        None,        None,                  4.0,             None),
    "builtin_images":  (None,                        None,        None,                  1000,            256),
    "record_kimg":     (None,                        None,        0.25,                  0.25,            0.1),
    "sample_kimg":     (None,                        10.0,        1.0,                   1.0,             0.5),
    "eval_kimg":       (None,                        None,        "32:10,64:5,128:3",    "64",            "0"),
}  # fmt: skip

SCHEDULES = (
    "fixed",
    "manual",
)

# Networks of models/pretrained.py.
FEATURES = (
    "none",
    "efficientnet-lite0",
    "efficientnet-lite1",
    "resnet50",
)

# dcgan: Radford et al. 2016, section 4. Its "loss" is used when no --loss is given.
ARCH_TABLE = {
    "paper": {"residual": False, "critic_norm": "none"},
    "style": {"residual": False, "critic_norm": "none"},
    "dcgan": {
        "loss": "bce",
        "lr": "0.0002",
        "beta1": 0.5,
        "beta2": 0.999,
        "stddev_group": 0,
        "critic_norm": "batch",
        "processes": 1,
    },  # batch norm sees only the images of its own process
}

# relativistic: gamma falls by four with each halving of the resolution, because mean pooling leaves a quarter of the
# squared gradient norm. wgan: Arjovsky et al. 2017, algorithm 1; a clip of 1 bounds an equalized layer at its initial
# spread.
LOSS_SETTINGS = ("penalty_weight", "drift", "clip")
LOSS_TABLE = {
    "logistic":      ("32:0.3,64:1,128:3,256:10",  0.0,    0.0),
    "wgan-gp":       ("10",                        0.001,  0.0),
    "relativistic":  ("32:0.25,64:1,128:4,256:16", 0.0,    0.0),
    "bce":           ("0",                         0.0,    0.0),
    "lsgan":         ("0",                         0.0,    0.0),
    "hinge":         ("0",                         0.0,    0.0),
    "wgan":          ("0",                         0.0,    1.0),
}  # fmt: skip


def losses_with(setting: str) -> tuple[str, ...]:
    """Returns the losses whose default of `setting`, a name in LOSS_SETTINGS, is above 0. No other loss may have it."""
    column = LOSS_SETTINGS.index(setting)
    return tuple(loss for loss, row in LOSS_TABLE.items() if row[column] not in ("0", 0.0))


PENALIZED = losses_with("penalty_weight")

# Settings of an architecture together with a loss. dcgan's weights are not equalized: the clip is the published one,
# with which momentum makes a critic unstable (Arjovsky et al. 2017, section 4.3). A penalty excludes batch norm.
PAIR_TABLE = {
    ("dcgan", "wgan"): {"clip": 0.01, "beta1": 0.0},
    **{("dcgan", loss): {"critic_norm": "layer"} for loss in PENALIZED},
}
