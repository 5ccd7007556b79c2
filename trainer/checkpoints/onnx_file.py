"""A predictor as one ONNX file: pictures (N, 3, R, R) in [0, 1] -> probabilities, logits (N, C).

The file holds the image encoder with its learned tokens, the text features of the classes, and,
as JSON under the metadata key "mmrl", what a program needs to use it. It says nothing of texts: for
other classes another file is exported.
"""

import inspect
import io
import json
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import transforms as T

from dassl.errors import RequestError
from trainer.predictor import Predictor

__all__ = ["METADATA", "OPSET", "to_onnx"]

METADATA = "mmrl"  # key of the JSON
OPSET = 17  # the first with layer norms
_PLAIN_STEPS = (T.Resize, T.CenterCrop, T.ToTensor, T.Normalize)


class Deployed(nn.Module):
    """Pictures in [0, 1] -> (probabilities, logits), the normalisation of pictures included."""

    mean: Tensor  # (1, 3, 1, 1)
    std: Tensor

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.model = predictor.model  # so that its weights go into the file under their names
        self.predictor = predictor
        normalize = _step(predictor, T.Normalize)
        for name, default in (("mean", 0.0), ("std", 1.0)):
            values = getattr(normalize, name, [default] * 3)
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, R, R) -> (N, C), twice."""
        logits = self.predictor.scores((image - self.mean) / self.std)
        return logits.softmax(1), logits


def to_onnx(predictor: Predictor, about: Mapping[str, Any], is_half: bool = False) -> bytes:
    """The content of an .onnx file; with `is_half` it stores matrices as float16.

    Inputs, outputs and all that is computed are float32 in both cases. `about` is added to the
    metadata.

    Raises:
        RequestError: the package onnx is missing, or the pictures are prepared in another way than
            by resizing, cropping and normalising.
    """
    onnx = _package()
    side = _check_steps(predictor)
    deployed = Deployed(predictor).eval()
    model = onnx.load_from_string(_traced(deployed, side))
    if is_half:
        _halve(model, onnx)
    metadata = {
        **about,
        "classnames": predictor.classnames,
        "template": predictor.template,
        "reads": predictor.reads,
        "temperature": 1.0,  # logits are divided by it
        "size": side,
        "interpolation": _step(predictor, T.Resize).interpolation.value,
        "mean": deployed.mean.flatten().tolist(),  # applied by the graph
        "std": deployed.std.flatten().tolist(),
        "weights": "float16" if is_half else "float32",
    }
    onnx.helper.set_model_props(model, {METADATA: json.dumps(metadata, ensure_ascii=False)})
    return model.SerializeToString()


def _package() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise RequestError(
            "An export to .onnx needs the package onnx, which is not installed: pip install onnx"
        ) from error
    return onnx


def _check_steps(predictor: Predictor) -> int:
    """The side R of the pictures, in pixels."""
    for step in predictor.transform.transforms:
        if not isinstance(step, _PLAIN_STEPS):
            raise RequestError(
                f"INPUT.TRANSFORMS prepares pictures by {type(step).__name__}, which an .onnx file "
                "cannot say; export to .safetensors"
            )
    return predictor.model.image_encoder.tower.resolution


def _step(predictor: Predictor, kind: type) -> Any:
    steps = predictor.transform.transforms
    return next((step for step in steps if isinstance(step, kind)), None)


@torch.no_grad()
def _traced(module: nn.Module, side: int) -> bytes:
    """The graph as torch writes it, for any number of pictures."""
    file: Any = io.BytesIO()  # which tracing takes, whatever its annotation
    names = ("image", "probabilities", "logits")
    # Tracing needs onnx alone, works from torch 2.4 on and takes seconds; `dynamo` is its default
    # where there is a choice, and takes minutes.
    parameters = inspect.signature(torch.onnx.export).parameters
    tracing: dict[str, Any] = {"dynamo": False} if "dynamo" in parameters else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that sizes become constants; all but N may
        torch.onnx.export(
            module,
            (torch.zeros(2, 3, side, side, device=next(module.parameters()).device),),
            file,
            opset_version=OPSET,
            input_names=list(names[:1]),
            output_names=list(names[1:]),
            dynamic_axes={name: {0: "batch"} for name in names},
            **tracing,
        )
    return file.getvalue()


def _halve(model: Any, onnx: Any) -> None:
    """Store matrices as float16, in place; a cast behind each gives the graph float32 again."""
    casts = []
    for stored in model.graph.initializer:
        if stored.data_type != onnx.TensorProto.FLOAT or len(stored.dims) < 2:
            continue
        name = stored.name
        values = onnx.numpy_helper.to_array(stored).astype("float16")
        stored.CopyFrom(onnx.numpy_helper.from_array(values, f"{name}.half"))
        cast = onnx.helper.make_node("Cast", [stored.name], [name], to=onnx.TensorProto.FLOAT)
        casts.append(cast)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
