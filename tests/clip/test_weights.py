"""Loading: four kinds of source, one CLIP; what is refused."""

import os
import zipfile

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import save_file
from torch import nn

import clip
from clip.weights import load_state_dict


def as_module_tree(state):
    """Modules whose scripted form has the tree of OpenAI's archives."""

    class Node(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    root = Node()
    for key, value in state.items():
        *path, leaf = key.split(".")
        node = root
        for name in path:
            if name not in node._modules:
                node.add_module(name, Node())
            node = node._modules[name]
        node.register_parameter(leaf, nn.Parameter(value, requires_grad=False))
    root.register_buffer("input_resolution", torch.tensor(32))
    return root


def half(state):
    return {k: v.half() if ".attn." in k or ".mlp." in k else v for k, v in state.items()}


@pytest.fixture(params=["torchscript", "state_dict", "nested", "safetensors"])
def weights_file(request, clip_state, tmp_path):
    state = half(clip_state)
    path = tmp_path / "weights.pt"
    if request.param == "torchscript":
        torch.jit.script(as_module_tree(state)).save(str(path))
    elif request.param == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(state, path)
    else:
        torch.save({"state_dict": state} if request.param == "nested" else state, path)
    return str(path)


def test_every_kind_of_file_gives_the_same_frozen_clip(weights_file, clip_state):
    model = clip.load(weights_file)
    assert model.sizes._asdict() == {
        "embed_dim": 32, "resolution": 32, "patch": 8, "vision_width": 64, "vision_layers": 4,
        "text_width": 64, "text_layers": 4, "context_length": 77, "vocab_size": 49408,
    }  # fmt: skip
    assert not model.training
    assert all(not p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    for own, value in model.state_dict().items():
        key = own.removeprefix("text.")
        assert torch.equal(value, half(clip_state)[key].float()), key


def test_a_torchscript_archive_is_read_without_torchscript(clip_state, tmp_path, monkeypatch):
    path = str(tmp_path / "archive.pt")
    torch.jit.script(as_module_tree(clip_state)).save(path)
    monkeypatch.setattr(torch.jit, "load", None)
    monkeypatch.setattr(torch, "load", None)
    assert torch.equal(load_state_dict(path)["visual.proj"], clip_state["visual.proj"])


def test_a_hostile_archive_is_refused(tmp_path):
    path = tmp_path / "archive.pt"
    mark = tmp_path / "executed"
    with zipfile.ZipFile(path, "w") as archive:
        command = f"touch {mark}".encode()
        payload = b"cos\nsystem\n(X" + len(command).to_bytes(4, "little") + command + b"tR."
        archive.writestr("archive/data.pkl", b"\x80\x02" + payload)
        archive.writestr("archive/constants.pkl", b"\x80\x02).")
    with pytest.raises(ValueError, match=r"archive\.pt.*os\.system.*Nothing was executed"):
        clip.load(str(path))
    assert not mark.exists()


def test_a_hostile_state_dict_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'executed'}",)

    torch.save({"state_dict": Hostile()}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt.*Nothing was executed"):
        clip.load(str(tmp_path / "x.pt"))
    assert not (tmp_path / "executed").exists()


def change(state, tmp_path, edit):
    state = dict(state)
    edit(state)
    torch.save(state, tmp_path / "edited.pt")
    return str(tmp_path / "edited.pt")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.pop("ln_final.bias"), r"ln_final\.bias"),
        (lambda s: s.pop("visual.conv1.weight"), r"lacks \['visual\.conv1\.weight'\]"),
        (lambda s: s.update(extra=torch.ones(1)), "extra"),
        (lambda s: s.update({"ln_final.bias": torch.ones(3)}), r"ln_final\.bias"),
        (lambda s: s.update({"visual.layer1.0.conv1.weight": torch.ones(1)}), "ResNet"),
        (
            lambda s: s.update({"visual.conv1.weight": torch.ones(8, 8)}),
            r"edited\.pt.*conv1\.weight has the shape \(8, 8\).* 4 dimensions",
        ),
        (
            lambda s: s.update(positional_embedding=torch.ones(77)),
            r"positional_embedding has the shape \(77,\)",
        ),
        (
            lambda s: s.update({"visual.positional_embedding": torch.ones(0, 64)}),
            r"visual\.positional_embedding has the shape \(0, 64\)",
        ),
        (
            lambda s: s.update(
                {
                    "vision_model.embeddings.class_embedding": torch.ones(1),
                    "text_model.encoder.layers.0.self_attn.q_proj.bias": torch.ones(1),
                }
            ),
            r"names of a Hugging Face CLIP",
        ),
        (
            lambda s: s.update({"visual.conv1.weight": torch.ones(1280, 3, 14, 14)}),
            "image tower is 1280 wide",
        ),
        (lambda s: s.update(note="text"), "something other than a state dict"),
    ],
)
def test_what_does_not_fit_is_named(clip_state, tmp_path, edit, message):
    with pytest.raises(ValueError, match=message):
        clip.load(change(clip_state, tmp_path, edit))


def test_a_torn_file_is_named(tmp_path):
    for name in ("torn.pt", "torn.safetensors"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 torn")
        with pytest.raises(ValueError, match=f"Cannot read '.*{name}'"):
            clip.load(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("RN50", ValueError, "ResNet"),
        ("ViT-B/17", ValueError, r"ViT-B/17.*ViT-B/16"),
        ("missing/tiny.pt", FileNotFoundError, r"missing/tiny\.pt"),
    ],
)
def test_names_that_are_not_known(name, error, message):
    with pytest.raises(error, match=message):
        clip.load(name)


def test_a_name_is_found_in_an_own_folder(clip_state, tmp_path, monkeypatch):
    torch.save(clip_state, tmp_path / "ViT-B-16.pt")
    monkeypatch.setenv("CLIP_DIR", str(tmp_path))
    assert clip.load("ViT-B/16").sizes.vision_layers == 4


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("ViT-B/16", r"OpenAI's ViT-B-16\.pt"),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", r"ViT-B-32-laion2b_s34b_b79k\.pt"),
    ],
)
def test_offline_says_which_file_to_put_where(name, file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=file + r" into ~/\.cache/clip.*CLIP_DIR"):
        clip.load(name)


def test_the_first_file_that_a_repository_has_is_fetched(clip_state, tmp_path, monkeypatch):
    torch.save(clip_state, tmp_path / "weights.bin")

    def of_hub(repository, name):
        if name.endswith(".safetensors"):
            raise EntryNotFoundError(f"no {name} in {repository}")
        return str(tmp_path / "weights.bin")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", of_hub)
    assert clip.load("open_clip:ViT-B-32/laion2b_s34b_b79k").activation == "gelu"
