"""`cfg.DATASET.NAME` -> a data set."""

from typing import Any

from dassl.errors import RequestError
from dassl.utils import Registry, check_availability

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg: Any) -> Any:
    """The registered data set of that name, made from `cfg`.

    Raises:
        RequestError: there is no name, or it is not registered.
    """
    if not cfg.DATASET.NAME:
        known = ", ".join(DATASET_REGISTRY.registered_names())
        raise RequestError(
            "No data set is named (DATASET.NAME, which configs/datasets/*.yaml give); choose from "
            f"{known}"
        )
    check_availability(cfg.DATASET.NAME, DATASET_REGISTRY.registered_names())
    if cfg.VERBOSE:
        print(f"Loading dataset: {cfg.DATASET.NAME}")
    return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)
