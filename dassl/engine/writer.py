"""tensorboard's writer under the name that trainers import, without needing the package."""

from typing import Any

__all__ = ["SummaryWriter"]


class SummaryWriter:
    """`SummaryWriter(...)` is `torch.utils.tensorboard`'s; tensorboard is imported by that call.

    Raises:
        ImportError: tensorboard is not installed.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter as Writer
        except ImportError as error:
            raise ImportError(
                "SummaryWriter needs tensorboard, which is not installed: pip install tensorboard"
            ) from error
        return Writer(*args, **kwargs)

    def __init_subclass__(cls) -> None:
        # An instance would be tensorboard's own class, without what the subclass adds.
        raise TypeError("Derive from torch.utils.tensorboard.SummaryWriter, not from this name")
