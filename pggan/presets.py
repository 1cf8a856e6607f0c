"""The named settings, as one table. Every preset is a whole Config; a flag given by the user goes over it."""

from dataclasses import fields, is_dataclass, replace

from pggan.config import Config

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
    "penalty":           ("10",                 None,                  None,             None),
    "drift":             (0.001,                None,                  None,             None),
    "batch":             (PAPER_BATCH,          "16",                  "8",              "16,256:8"),
    "lr":                ("0.001,1024:0.0015",  "0.002",               "0.003",          "0.002"),
    "adam_at_growth":    ("reset",              None,                  None,             None),
    "warmup_kimg":       (0.0,                  1.0,                   0.5,              0.1),
    "ema_kimg":          (PAPER_EMA,            "5",                   "1",              "0.2"),
    "ema_ramp":          (0.0,                  None,                  None,             None),
    "fade_kimg":         ("600",                "5",                   "1",              "0.3"),
    "stable_kimg":       ("600",                "32:60,64:40,128:15",  "32:32,64:14",    "0.7,32:1"),
    "stage_minutes":     (None,                 None,                  "32:2.7,64:2.1",  None),
    "floor_kimg":        (None,                 None,                  4.0,              None),
    "builtin_pictures":  (None,                 None,                  1000,             256),
    "record_kimg":       (None,                 0.25,                  0.25,             0.1),
    "sample_kimg":       (10.0,                 1.0,                   1.0,              0.5),
}  # fmt: skip

NAMES = ("paintings", *COLUMNS)


def preset(name: str = "paintings") -> Config:
    """The Config of that name; `paintings` is every field's own default."""
    if name == "paintings":
        return Config()
    column = COLUMNS.index(name)
    changes = {setting: row[column] for setting, row in TABLE.items() if row[column] is not None}
    return with_settings(replace(Config(), preset=name), changes)


def with_settings(config: Config, changes: dict[str, object]) -> Config:
    """`config` with settings changed by their flag names, wherever in the tree they are."""
    parts = {}
    for item in fields(config):
        part = getattr(config, item.name)
        own = [f.name for f in fields(part)] if is_dataclass(part) else []
        parts[item.name] = replace(part, **{name: changes[name] for name in own if name in changes}) if own else part
    return replace(config, **parts)
