"""Converted states give the features of the libraries' own models."""

import open_clip
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

import clip

SIZES = [(32, 16), (32, 8), (28, 14)]  # resolution, patch


def random_tokens():
    return clip.tokenize(["a photo of a cat.", "river bank"])


def compare(path, images, image, text):
    model = clip.load(str(path))
    with torch.no_grad():
        torch.testing.assert_close(model.encode_image(images), image, rtol=0, atol=1e-5)
        torch.testing.assert_close(model.encode_text(random_tokens()), text, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("resolution", "patch"), SIZES)
def test_hugging_face(resolution, patch, tmp_path):
    torch.manual_seed(0)
    tower = {
        "hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 1,
        "hidden_act": "quick_gelu",
    }  # fmt: skip
    config = CLIPConfig(
        text_config=tower | {"num_hidden_layers": 3, "eos_token_id": 49407, "vocab_size": 49408},
        vision_config=tower
        | {"num_hidden_layers": 4, "image_size": resolution, "patch_size": patch},
        projection_dim=32,
    )  # fmt: skip
    model = CLIPModel(config).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1) if p.dim() else None
    torch.save(model.state_dict(), tmp_path / "hf.pt")
    images = torch.randn(2, 3, resolution, resolution)
    with torch.no_grad():
        image = model.visual_projection(model.vision_model(pixel_values=images).pooler_output)
        text = model.text_projection(model.text_model(input_ids=random_tokens()).pooler_output)
    compare(tmp_path / "hf.pt", images, image, text)


@pytest.mark.parametrize("custom_text", [False, True])
@pytest.mark.parametrize(("resolution", "patch"), SIZES)
def test_open_clip(resolution, patch, custom_text, tmp_path):
    torch.manual_seed(0)
    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    model = kind(
        embed_dim=32,
        vision_cfg={
            "image_size": resolution, "layers": 4, "width": 64, "patch_size": patch,
            "head_width": 64,
        },
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 3},
        quick_gelu=True,
    ).eval()  # fmt: skip
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1) if p.dim() else None
    torch.save(model.state_dict(), tmp_path / "oc.pt")
    images = torch.randn(2, 3, resolution, resolution)
    with torch.no_grad():
        compare(
            tmp_path / "oc.pt", images, model.encode_image(images),
            model.encode_text(random_tokens()),
        )  # fmt: skip


@pytest.mark.parametrize("key", ["vision_model.embeddings.class_embedding", "text.ln_final.bias"])
def test_another_library_s_file_needs_its_activation_said(key, tmp_path):
    torch.save({key: torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt'.*MODEL\.BACKBONE\.ACTIVATION quick_gelu"):
        clip.load(str(tmp_path / "other.pt"), activation="auto")
    with pytest.raises(ValueError, match=r"other\.pt") as refused:
        clip.load(str(tmp_path / "other.pt"))
    assert "ACTIVATION" not in str(refused.value)


def test_a_file_under_openai_s_keys_is_what_it_is(clip_file):
    assert clip.load(clip_file, activation="auto").sizes.vision_layers == 4
