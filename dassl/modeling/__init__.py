"""Registries of networks that code built on Dassl may fill; few-shot CLIP trainers use none."""

from typing import Any

from torch import nn

from dassl.utils import Registry, check_availability

__all__ = [
    "BACKBONE_REGISTRY",
    "HEAD_REGISTRY",
    "NETWORK_REGISTRY",
    "Backbone",
    "build_backbone",
    "build_head",
    "build_network",
]

BACKBONE_REGISTRY = Registry("BACKBONE")
HEAD_REGISTRY = Registry("HEAD")
NETWORK_REGISTRY = Registry("NETWORK")


class Backbone(nn.Module):
    """A feature extractor; `out_features` is its number of features, set by the subclass."""

    @property
    def out_features(self) -> int | None:
        """Number of features."""
        return getattr(self, "_out_features", None)


def _build(registry: Registry, kind: str, name: str, verbose: bool, **kwargs: Any) -> Any:
    check_availability(name, registry.registered_names())
    if verbose:
        print(f"{kind}: {name}")
    return registry.get(name)(**kwargs)


def build_backbone(name: str, verbose: bool = True, **kwargs: Any) -> Any:
    """The registered backbone of that name."""
    return _build(BACKBONE_REGISTRY, "Backbone", name, verbose, **kwargs)


def build_head(name: str, verbose: bool = True, **kwargs: Any) -> Any:
    """The registered head of that name."""
    return _build(HEAD_REGISTRY, "Head", name, verbose, **kwargs)


def build_network(name: str, verbose: bool = True, **kwargs: Any) -> Any:
    """The registered network of that name."""
    return _build(NETWORK_REGISTRY, "Network", name, verbose, **kwargs)
