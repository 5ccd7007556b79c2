"""Top-k accuracy: scores (B, C), labels (B,) -> percent."""

from collections.abc import Sequence

from torch import Tensor


def compute_accuracy(
    output: Tensor | Sequence[Tensor], target: Tensor, topk: Sequence[int] = (1,)
) -> list[Tensor]:
    """One tensor of shape (1,) per k, in percent; of a sequence the first element is the scores.

    Raises:
        ValueError: a k is larger than the number of classes.
    """
    scores = output if isinstance(output, Tensor) else output[0]
    if max(topk) > scores.shape[1]:
        raise ValueError(f"topk {tuple(topk)} asks for more than the {scores.shape[1]} classes")
    ranked = scores.topk(max(topk), dim=1).indices  # (B, k)
    hits = ranked.eq(target.view(-1, 1)).float()
    return [hits[:, :k].sum().mul(100.0 / len(target)).reshape(1) for k in topk]
