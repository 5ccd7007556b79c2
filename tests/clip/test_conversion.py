"""Converted states give the features and logits of the libraries' own models."""

import json

import pytest
import torch
from safetensors.torch import save_file

import clip
from clip.descriptions import open_clip_entry

open_clip = pytest.importorskip("open_clip")  # requirements.txt
transformers = pytest.importorskip("transformers")  # requirements-dev.txt

every_size = pytest.mark.parametrize(
    ("resolution", "patch", "activation"),
    [(32, 16, "quick_gelu"), (32, 8, "gelu"), (28, 14, "quick_gelu"), (28, 14, "gelu")],
)
every_activation = pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])


def random_tokens():
    return clip.tokenize(["a photo of a cat.", "river bank"])


def equal(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)  # float32 in another order


def compare(model, images, image, text, logits):
    with torch.no_grad():
        of_images, of_texts = model.encode_image(images), model.encode_text(random_tokens())
        equal(of_images, image)
        equal(of_texts, text)
        one, other = (torch.nn.functional.normalize(x, dim=1) for x in (of_images, of_texts))
        equal(model.logit_scale.exp() * one @ other.t(), logits)


def randomise(model):
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1) if p.dim() else None
    return model.eval()


def hugging_face_model(resolution, patch, activation):
    torch.manual_seed(0)
    tower = {
        "hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 1,
        "hidden_act": activation,
    }  # fmt: skip
    config = transformers.CLIPConfig(
        text_config=tower | {"num_hidden_layers": 3, "eos_token_id": 49407, "vocab_size": 49408},
        vision_config=tower
        | {"num_hidden_layers": 4, "image_size": resolution, "patch_size": patch},
        projection_dim=32,
    )  # fmt: skip
    return randomise(transformers.CLIPModel(config))


def compare_hugging_face(model, theirs, resolution):
    images = torch.randn(2, 3, resolution, resolution)
    with torch.no_grad():
        out = theirs(input_ids=random_tokens(), pixel_values=images)
        image = theirs.visual_projection(theirs.vision_model(pixel_values=images).pooler_output)
        text = theirs.text_projection(theirs.text_model(input_ids=random_tokens()).pooler_output)
    compare(model, images, image, text, out.logits_per_image)


@every_size
def test_hugging_face(resolution, patch, activation, tmp_path):
    theirs = hugging_face_model(resolution, patch, activation)
    torch.save(theirs.state_dict(), tmp_path / "hf.pt")
    model = clip.load(str(tmp_path / "hf.pt"), activation)
    compare_hugging_face(model, theirs, resolution)


@every_activation
def test_a_hugging_face_folder_says_its_activation(activation, tmp_path):
    theirs = hugging_face_model(32, 16, activation)
    theirs.save_pretrained(tmp_path / "folder")
    for path in (tmp_path / "folder", tmp_path / "folder/model.safetensors"):
        model = clip.load(str(path))
        assert model.activation == activation
    compare_hugging_face(model, theirs, 32)


def open_clip_model(resolution, patch, activation, custom_text=False):
    torch.manual_seed(0)
    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    description = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": resolution, "layers": 4, "width": 64, "patch_size": patch},
        "text_cfg": {
            "context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 3,
        },
        "quick_gelu": activation == "quick_gelu",
    }  # fmt: skip
    return randomise(kind(**description)), description


def compare_open_clip(model, theirs, resolution):
    images = torch.randn(2, 3, resolution, resolution)
    with torch.no_grad():
        image, text = theirs.encode_image(images), theirs.encode_text(random_tokens())
        one, other = (torch.nn.functional.normalize(x, dim=1) for x in (image, text))
        compare(model, images, image, text, theirs.logit_scale.exp() * one @ other.t())


@pytest.mark.parametrize("custom_text", [False, True])
@every_size
def test_open_clip(resolution, patch, activation, custom_text, tmp_path):
    theirs, _ = open_clip_model(resolution, patch, activation, custom_text)
    torch.save(theirs.state_dict(), tmp_path / "oc.pt")
    compare_open_clip(clip.load(str(tmp_path / "oc.pt"), activation), theirs, resolution)


@every_activation
@pytest.mark.parametrize("custom_text", [False, True])
def test_an_open_clip_folder_says_its_activation(activation, custom_text, tmp_path):
    theirs, description = open_clip_model(32, 16, activation, custom_text)
    save_file(theirs.state_dict(), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": description}))
    compare_open_clip(clip.load(str(tmp_path)), theirs, 32)


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("ViT-B-32/openai", "quick_gelu"),
        ("ViT-B-32/laion2b_s34b_b79k", "gelu"),
        ("ViT-B-16/datacomp_xl_s13b_b90k", "gelu"),
        ("ViT-L-14-quickgelu/dfn2b", "quick_gelu"),
        ("ViT-L-14/dfn2b", "quick_gelu"),  # the tag says it, the plain model's name does not
        ("ViT-B-32-quickgelu/laion400m_e32", "quick_gelu"),
    ],
)
def test_open_clip_s_tables_say_the_activation(name, activation, clip_state, tmp_path, monkeypatch):
    torch.save(clip_state, tmp_path / f"{name.replace('/', '-')}.pt")
    monkeypatch.setenv("CLIP_DIR", str(tmp_path))
    assert clip.load(f"open_clip:{name}").activation == activation


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-B-32/mine", r"no 'ViT-B-32/mine'; its tags are \['openai'"),
        ("ViT-Q/mine", r"no 'ViT-Q/mine'; models are such as \['ViT-B-16'"),
        ("ViT-B-16-SigLIP/webli", "init_logit_bias"),
        ("RN50/openai", "a ResNet"),
        ("ViT-H-14/laion2b_s32b_b79k", "'head_width': 80"),
        ("ViT-L-14/laion2b_s32b_b82k", r"another mean, \(0\.5, .*ACTIVATION gelu.*PIXEL_MEAN"),
    ],
)
def test_what_open_clip_has_and_this_clip_is_not(name, message):
    with pytest.raises(ValueError, match=message):
        open_clip_entry(f"open_clip:{name}")


def test_tables_that_leave_the_activation_out_are_not_believed(monkeypatch):
    entry = {"hf_hub": "a/b/"}  # as older versions have it
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, tag: entry)
    with pytest.raises(ValueError, match="pip install -U open_clip_torch"):
        open_clip_entry("open_clip:ViT-B-32/laion2b_s34b_b79k")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "siglip"}, "is of a 'siglip'; MMRL needs a clip"),
        ({"vision_config": {"hidden_act": "gelu"}}, "'vision': 'gelu', 'text': 'quick_gelu'"),
        ({"text_config": {"hidden_act": "relu"}}, "'text': 'relu'"),
        ({"vision_config": {"hidden_size": 1280, "num_attention_heads": 16}}, "16 heads at width"),
        ({"text_config": [1]}, "text_config is not a JSON object"),
    ],
)
def test_a_config_of_another_model_is_refused(change, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"} | change))
    torch.save({"vision_model.embeddings.class_embedding": torch.ones(1)}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=message):
        clip.load(str(tmp_path / "x.pt"))


@pytest.mark.parametrize(
    ("resolution", "patch", "width", "text_width"),
    [(224, 32, 768, 512), (224, 16, 768, 512), (224, 14, 1024, 768)],
)
def test_files_with_the_shapes_of_published_models(resolution, patch, width, text_width, tmp_path):
    """ViT-B/32, B/16, L/14 with one layer each, as parallel training stores them."""
    model = open_clip.CLIP(
        embed_dim=text_width,
        vision_cfg={"image_size": resolution, "layers": 1, "width": width, "patch_size": patch},
        text_cfg={
            "context_length": 77, "vocab_size": 1000, "width": text_width, "layers": 1,
            "heads": text_width // 64,
        },
    ).eval()  # fmt: skip
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "RS5M.pt")
    images, tokens = torch.randn(1, 3, resolution, resolution), torch.tensor([[1, 7, 999]])
    ours = clip.load(str(tmp_path / "RS5M.pt"), "gelu")
    with torch.no_grad():
        equal(ours.encode_image(images), model.encode_image(images))
        padded = torch.nn.functional.pad(tokens, (0, 74))
        equal(ours.encode_text(tokens), model.encode_text(padded))


@pytest.mark.parametrize("key", ["vision_model.embeddings.class_embedding", "text.ln_final.bias"])
def test_another_library_s_file_needs_its_activation_said(key, tmp_path):
    torch.save({key: torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(
        ValueError, match=r"other\.pt'.*MODEL\.BACKBONE\.ACTIVATION quick_gelu.* or gelu"
    ):
        clip.load(str(tmp_path / "other.pt"), activation="auto")
    with pytest.raises(ValueError, match=r"other\.pt") as refused:
        clip.load(str(tmp_path / "other.pt"), activation="gelu")
    assert "ACTIVATION" not in str(refused.value)


def test_a_bare_file_under_openai_s_keys_is_announced(clip_file, capsys):
    assert clip.load(clip_file).activation == "quick_gelu"
    assert "is taken to be of QuickGELU" in capsys.readouterr().out
    assert clip.load(clip_file, "gelu").activation == "gelu"
    assert capsys.readouterr().out == ""


def test_an_activation_that_a_name_contradicts_is_announced(clip_file, monkeypatch, capsys):
    monkeypatch.setattr("clip.weights._find_local", lambda name: clip_file)
    assert clip.load("ViT-B/16").activation == "quick_gelu"
    assert capsys.readouterr().out == ""
    assert clip.load("ViT-B/16", "gelu").activation == "gelu"
    assert "CLIP computes gelu, but" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("logit_bias", "a SigLIP"),
        ("vision_model.head.probe", "a SigLIP"),
        ("visual.trunk.norm.weight", "an image tower of timm"),
        ("module.visual.layer1.0.conv1.weight", "a CLIP ResNet"),
    ],
)
def test_other_kinds_of_model_are_named(key, kind, tmp_path):
    torch.save({key: torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(
        ValueError, match=f"other.pt' is .*{kind[2:]}.*MMRL needs a vision transformer"
    ):
        clip.load(str(tmp_path / "other.pt"))
