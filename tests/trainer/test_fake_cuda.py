"""The model on a GPU that is not there: fake CUDA tensors for forward, meta tensors for backward.

Fake tensors have a device, a type and a shape, no values; torch refuses to mix their devices.
"""

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from clip import tokenize
from clip.model import CLIP
from conftest import PUBLISHED_SPEC, recipe, tensors
from dassl.data.transforms import build_transform
from dassl.metrics import compute_accuracy
from trainer.config import build_config
from trainer.method.build import build_mmrl, build_mmrlpp
from trainer.method.injection import Injection
from trainer.method.model import mmrl_loss
from trainer.method.readout import ReadOut
from trainer.method.text_encoder import TextEncoder
from trainer.predictor import Predictor
from trainer.step import EncoderPrecision

PRODUCTS = {  # PREC or TEST.PREC: what the encoders' matrices are in
    "fp32": torch.float32,
    "amp": torch.float16,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
PROMPTS = tokenize(["a photo of a cat.", "a photo of a river bank.", "a photo of a dog."])
CUDA = torch.device("cuda")

# Precision and method share no branch, so the fast suite has each of both, the slow one all pairs.
FAST = {("MMRL", "amp"), ("MMRL", "bf16"), ("MMRLpp", "fp32"), ("MMRLpp", "fp16")}
every_model = pytest.mark.parametrize(
    ("method", "prec"),
    [
        pytest.param(method, prec, marks=() if (method, prec) in FAST else pytest.mark.slow)
        for method in ("MMRL", "MMRLpp")
        for prec in PRODUCTS
    ],
)


@pytest.fixture
def fake_card():
    """Inside it tensors on "cuda" can be made and computed with, on any machine."""
    fake_tensor = pytest.importorskip("torch._subclasses.fake_tensor")
    with fake_tensor.FakeTensorMode(allow_non_fake_inputs=True):
        try:
            torch.ones(1, device="cuda").half() @ torch.ones(1, device="cuda").half()
        except Exception as error:  # differs from version to version
            pytest.skip(f"torch {torch.__version__} has no fake CUDA tensors here: {error}")
        yield


def frozen_clip(activation="quick_gelu"):
    state = tensors(recipe.clip_state_dict(PUBLISHED_SPEC))
    return CLIP.from_state_dict(state, activation).round_to_half()


def build(method, prec, test_precs=("",), class_chunk=0, activation="quick_gelu"):
    """(model, its precisions, both towers) on the CPU: packing the prompts reads their values."""
    frozen = frozen_clip(activation)
    precisions = [EncoderPrecision(frozen, prec, test_prec, CUDA) for test_prec in test_precs]
    common = {"num_tokens": 3, "rep_dim": 8, "rep_layers": [2, 4], "alpha": 0.7}
    if method == "MMRL":
        model = build_mmrl(frozen, PROMPTS, class_chunk=class_chunk, **common)
    else:
        common |= {"beta": 0.6, "layer_rank": 2, "projection_rank": 4}
        model = build_mmrlpp(frozen, PROMPTS, class_chunk=class_chunk, **common)
    return model, precisions, frozen


def to_card(*modules, precisions=()):
    """As `Module.to`, which does not take fake tensors in every version of torch."""
    moved = {}
    for module in nn.ModuleList(modules).modules():
        for name, p in list(module.named_parameters(recurse=False)):
            moved[p] = nn.Parameter(p.data.to("cuda"), p.requires_grad)
            setattr(module, name, moved[p])
        for name, b in list(module.named_buffers(recurse=False)):
            setattr(module, name, b.to("cuda"))
    for precision in precisions:
        for kind in ("matrices", "rest"):
            exact = [(moved[p], values.to("cuda")) for p, values in getattr(precision, kind)]
            setattr(precision, kind, exact)


def training_step(model, device):
    images = torch.empty(4, 3, 32, 32, device=device)
    labels = torch.zeros(4, dtype=torch.long, device=device)
    out, frozen = model.with_frozen(images)
    loss = mmrl_loss(out, frozen, labels, alpha=0.7, reg_weight=1.0)
    return loss, [*out, *frozen, loss, *compute_accuracy(out.fusion, labels)]


class Operations(TorchDispatchMode):
    """Keeps whose operations were called."""

    def __init__(self):
        super().__init__()
        self.libraries = set()
        self.copied = []  # operations that bring tensors over from the CPU

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.libraries.add(func.namespace)
        found = [x.device.type for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        self.copied += [str(func)] if "cpu" in found else []
        return func(*args, **(kwargs or {}))


def assert_all_on(found, device):
    assert {x.device.type for x in found} == {device}
    assert {x.dtype for x in found} == {torch.float32}


@every_model
def test_training_forward_stays_on_the_card(method, prec, request):
    check_training_forward(*build(method, prec), PRODUCTS[prec], request)


def test_training_with_gelu_stays_on_the_card(request):
    check_training_forward(*build("MMRL", "amp", activation="gelu"), PRODUCTS["amp"], request)


def check_training_forward(model, precisions, frozen, products, request):
    request.getfixturevalue("fake_card")
    to_card(frozen, model, precisions=precisions)
    model.train()
    precisions[0].set_mode(training=True)
    assert {p.dtype for p in frozen.matrices()} == {products}
    with Operations() as operations:
        assert_all_on(training_step(model, "cuda")[1], "cuda")
    assert "aten" in operations.libraries
    assert "mkldnn" not in operations.libraries  # it has no kernels for a GPU
    assert operations.copied == []  # a captured graph must not wait for pageable memory


@every_model
def test_evaluation_stays_on_the_card_in_every_test_precision(method, prec, request):
    test_precs = ("", "fp32", "amp", "bf16")
    model, precisions, frozen = build(method, prec, test_precs)
    request.getfixturevalue("fake_card")
    to_card(frozen, model, precisions=precisions)
    images = torch.empty(2, 3, 32, 32, device="cuda")
    as_published = torch.float32 if prec == "amp" else PRODUCTS[prec]
    for test_prec, precision in zip(test_precs, precisions, strict=True):
        precision.set_mode(training=True)
        precision.set_mode(training=False)
        model.eval()
        assert {p.dtype for p in frozen.matrices()} == {PRODUCTS.get(test_prec, as_published)}
        with torch.no_grad():
            assert_all_on([*model(images), *model.frozen_features(images)], "cuda")
            shared = model.image_encoder.shared(images)
            adaptation = model.adaptation()
            assert_all_on(model.classify(shared, adaptation), "cuda")
            mixed = ReadOut(torch.arange(1, device="cuda"), torch.arange(1, 3, device="cuda"))
            assert_all_on(mixed.scores(model, shared, adaptation), "cuda")
        precision.set_mode(training=True)  # where the next one begins


def test_class_chunks_stay_on_the_card(request):
    model, *_ = build("MMRL", "fp32", class_chunk=2)
    request.getfixturevalue("fake_card")
    to_card(model.train())
    assert_all_on(training_step(model, "cuda")[1], "cuda")


def test_a_tensor_left_on_the_cpu_is_found(request):
    """What the tests above rest on."""
    model, *_ = build("MMRL", "fp32")
    request.getfixturevalue("fake_card")
    to_card(model)
    with pytest.raises(RuntimeError, match=r"same device|different devices"):
        model(torch.empty(1, 3, 32, 32))


def test_prompts_are_packed_where_they_are():
    """A tensor that is made without a device would land on meta here, beside the prompts."""
    tower = frozen_clip().text
    with torch.device("meta"):
        encoder = TextEncoder(tower, Injection([2, 3]), PROMPTS)
    assert {x.device.type for x in encoder.buffers()} == {"cpu"}


@every_model
def test_every_learned_tensor_gets_its_gradient_where_it_is(method, prec):
    check_gradients(*build(method, prec), prec)


def test_gradients_through_gelu_are_where_they_should_be():
    check_gradients(*build("MMRLpp", "fp16", activation="gelu"), "fp16")


def check_gradients(model, _, frozen, prec):
    model.to("meta").train()
    EncoderPrecision(frozen, prec, "", CUDA).set_mode(training=True)
    loss, _ = training_step(model, "meta")
    with Operations() as operations:
        loss.backward()
    assert operations.copied == []
    assert_all_on([p.grad for p in model.learned().values()], "meta")
    assert all(p.grad.shape == p.shape for p in model.learned().values())
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_clip_itself_stays_on_the_card(request):
    frozen = frozen_clip()
    request.getfixturevalue("fake_card")
    to_card(frozen)
    images = frozen.encode_image(torch.empty(2, 3, 32, 32, device="cuda"))
    assert_all_on([images, frozen.encode_text(PROMPTS.to("cuda"))], "cuda")


def test_a_predictor_takes_pictures_to_the_card_and_brings_logits_back(request):
    model, *_ = build("MMRL", "fp32")
    transform = build_transform(build_config(flags={"INPUT.SIZE": (32, 32)})[0], is_train=False)
    pictures = [Image.new("L", (40, 36))] * 2
    request.getfixturevalue("fake_card")
    to_card(model)
    read_out = ReadOut.of([True] * 3, CUDA)
    predictor = Predictor(model, ["cat", "bank", "dog"], transform, read_out)
    assert predictor.device.type == "cuda"
    logits = predictor.logits(pictures)
    assert (logits.device.type, logits.shape) == ("cpu", (2, 3))
