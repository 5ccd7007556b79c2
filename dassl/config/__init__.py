"""The default config tree: () -> an unfrozen yacs `CfgNode`."""

from yacs.config import CfgNode

from dassl.config.defaults import _C as cfg_default

__all__ = ["cfg_default", "clean_cfg", "get_cfg_default"]


def get_cfg_default() -> CfgNode:
    """A deep copy of the defaults, free to be extended and merged into."""
    return cfg_default.clone()


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Drop the nodes of all other trainers from `cfg.TRAINER`, in place.

    Names are compared without case, so that a node such as `MMRLpp` keeps its own values.
    """
    keep = {"NAME", trainer.upper()}
    for key in [key for key in cfg.TRAINER if key.upper() not in keep]:
        cfg.TRAINER.pop(key)
