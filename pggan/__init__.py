"""Progressive growing of GANs: trains on a folder of pictures, on one GPU or on the CPU.

The public names load on first use, so that `import pggan` and `train.py --help` need no torch.
"""

__version__ = "0.1.0"

_HOMES = {
    "Config": "config.schema",
    "NetworkConfig": "config.schema",
    "preset": "config.presets",
    "Generator": "models.networks",
    "Discriminator": "models.networks",
    "UserError": "errors",
    "Diverged": "errors",
    "Interrupted": "errors",
    "load_generator": "training.loading",
    "train": "run.loop",
}
__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'pggan' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"pggan.{_HOMES[name]}"), name)
