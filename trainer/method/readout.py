"""Which logits are read of which class: those of trained ones are fused, others are of f_c alone.

    trained classes (A):  alpha 100 f_c w' + (1 - alpha) 100 f_r w'
    new classes (B):      100 f_c w'                                   one softmax over A + B

f_r was trained to tell the trained classes apart, and knows no other; so the papers read base
classes from the fused logits, and new ones from the class feature. Here both stand in one list.

Either group is computed as if the other were not there: its prompts are packed and multiplied on
their own. A new class therefore leaves the logits of trained classes as they were, to the last bit.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.method.image_encoder import Shared
from trainer.method.model import Adaptation, MMRLModel

__all__ = ["ReadOut"]


class ReadOut(NamedTuple):
    """Both groups of a class list, as places in it; index tensors on the model's device."""

    trained: Tensor  # (A,)
    new: Tensor  # (B,)

    @classmethod
    def of(cls, is_trained: Iterable[bool], device: torch.device) -> "ReadOut":
        """The read-out of a class list that says of each class whether it was trained."""
        flags = list(is_trained)
        groups = (
            [place for place, flag in enumerate(flags) if flag is kind] for kind in (True, False)
        )
        return cls(*(torch.tensor(group, dtype=torch.long, device=device) for group in groups))

    @property
    def is_mixed(self) -> bool:
        """Whether there are classes of both kinds."""
        return len(self.trained) > 0 and len(self.new) > 0

    @property
    def rule(self) -> str:
        """What is read, to follow "read from the"."""
        if not self.is_mixed:
            return "fusion" if len(self.trained) else "class feature"
        trained, new = len(self.trained), len(self.new)
        return (
            f"fused logits of {_count(trained, 'trained')} and the class feature of "
            f"{_count(new, 'new')}, in one softmax"
        )

    def adaptation(self, model: MMRLModel, prompts: Tensor) -> Adaptation:
        """What the model has learned, for the prompts (A + B, T) of the class list.

        Of one group alone it is the model's own, whose prompts these are.
        """
        if not self.is_mixed:
            return model.adaptation()
        trained, new = (model.adapted_to(prompts[places]) for places in self)
        text = torch.cat([trained.text, new.text])  # (A + B, E), group by group
        return trained._replace(text=text[torch.cat(list(self)).argsort()])

    def scores(self, model: MMRLModel, shared: Shared, adaptation: Adaptation) -> Tensor:
        """The logits (N, A + B) that are read, of the batch behind `shared`."""
        if not self.is_mixed:
            out = model.classify(shared, adaptation)
            return out.fusion if len(self.trained) else out.logits
        features, text = model.image_features(shared, adaptation), adaptation.text
        # one product for all would round by the number of classes
        trained, new = (
            model.compare(features, adaptation._replace(text=text[places])) for places in self
        )
        scores = features.new_empty(len(features) // 2, len(text))
        scores[:, self.trained], scores[:, self.new] = trained.fusion, new.logits
        return scores


def _count(number: int, kind: str) -> str:
    return f"{number} {kind} class{'es' if number > 1 else ''}"
