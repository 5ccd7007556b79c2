"""What a checkpoint holds, which one is read, and that every key is accounted for."""

import re
import shutil

import numpy as np
import pytest
import torch

from clip import tokenize
from clip.model import CLIP
from conftest import GOLDEN, recipe, tensors
from trainer.checkpoints.find import find_checkpoint, read_checkpoint
from trainer.checkpoints.keys import learned_state, load_learned
from trainer.method.build import build_mmrl, build_mmrlpp

PUBLISHED = GOLDEN / "published_checkpoint"


@pytest.fixture(scope="module")
def published():
    return read_checkpoint(find_checkpoint(str(PUBLISHED)))


def build(clip_state, rep_dim=64, layers=(2, 3, 4), num_tokens=5, seed=78):
    frozen = CLIP.from_state_dict(clip_state).round_to_half()
    return build_mmrl(
        frozen, tokenize(["a"]), num_tokens=num_tokens, rep_dim=rep_dim, rep_layers=list(layers),
        alpha=0.7,
    )  # fmt: skip


@pytest.mark.parametrize("path", ["", "MultiModalRepresentationLearner"])
def test_run_folder_model_folder_and_file_are_all_found(path):
    want = PUBLISHED / "MultiModalRepresentationLearner" / "model.pth.tar-2"
    assert find_checkpoint(str(PUBLISHED / path)) == want
    assert find_checkpoint(str(want)) == want


def test_best_comes_before_last_and_an_epoch_before_both(tmp_path):
    folder = tmp_path / "MultiModalRepresentationLearner"
    folder.mkdir()
    for name in ("model.pth.tar-2", "model.pth.tar-10", "model.pth.tar-10.partial"):
        (folder / name).touch()
    assert find_checkpoint(str(tmp_path)).name == "model.pth.tar-10"
    (folder / "model-best.pth.tar").touch()
    assert find_checkpoint(str(tmp_path)).name == "model-best.pth.tar"
    assert find_checkpoint(str(tmp_path), epoch=2).name == "model.pth.tar-2"
    with pytest.raises(FileNotFoundError, match=r"no model\.pth\.tar-3; epochs there: \[2, 10\]"):
        find_checkpoint(str(tmp_path), epoch=3)
    file = str(folder / "model.pth.tar-2")
    assert find_checkpoint(file, epoch=2).name == "model.pth.tar-2"
    with pytest.raises(
        ValueError, match=r"--load-epoch 10 chooses among the checkpoints of a folder"
    ):
        find_checkpoint(file, epoch=10)
    with pytest.raises(ValueError, match=r"--load-epoch takes the number of an epoch, from 1, got"):
        find_checkpoint(str(tmp_path), epoch=-3)


def test_a_folder_without_checkpoint_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither model-best\.pth\.tar nor"):
        find_checkpoint(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="--model-dir"):
        find_checkpoint(str(tmp_path / "nowhere"))


def test_published_tensors_are_taken_over(clip_state, published):
    model = build(clip_state)
    load_learned(model, published["state_dict"])
    for key, value in learned_state(model).items():
        assert torch.equal(value, published["state_dict"][key])


def edited(state, edit):
    state = dict(state)
    edit(state)
    return state


LEARNED = "representation_learner.compound_rep_tokens_r2vproj.1.weight"
FROZEN = "image_encoder.ln_post.weight"


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda s: s.update(renamed=s.pop(LEARNED)), [LEARNED, "renamed"]),
        (lambda s: s.pop(LEARNED), [LEARNED]),
        (lambda s: s.pop(FROZEN), [FROZEN]),
        (lambda s: s.update(surplus=torch.ones(1)), ["surplus"]),
        (lambda s: s.update({LEARNED: torch.ones(64, 3)}), [LEARNED, "(64, 3)"]),
        (lambda s: s.update({FROZEN: s[FROZEN] + 1}), [FROZEN, "another CLIP", "--backbone"]),
    ],
)
def test_every_key_is_accounted_for(clip_state, published, edit, named):
    with pytest.raises(ValueError) as error:
        load_learned(build(clip_state), edited(published["state_dict"], edit))
    assert [part for part in named if part not in str(error.value)] == []


@pytest.mark.parametrize("change", [{"rep_dim": 32}, {"layers": (3, 4)}, {"num_tokens": 4}])
def test_another_configuration_is_refused(clip_state, published, change):
    with pytest.raises(ValueError, match="does not fit"):
        load_learned(build(clip_state, **change), published["state_dict"])


def test_class_list_tensors_are_never_loaded(clip_state, published):
    state = edited(published["state_dict"], lambda s: s.update(prompt_embeddings=torch.ones(1)))
    load_learned(build(clip_state), state)


@pytest.mark.parametrize("method", ["mmrl", "mmrlpp"])
def test_saved_keys_and_sizes_are_the_published_ones(method):
    """Against the keys of a released ViT-B/16 checkpoint, in shapes alone."""
    import json

    want = json.loads((GOLDEN / f"checkpoint_keys_{method}.json").read_text())
    spec = recipe.TINY | {
        "vision_width": 768, "text_width": 512, "embed_dim": 512, "patch": 16, "resolution": 224,
        "vision_layers": 7, "text_layers": 7, "vocab_size": 49408,
    }  # fmt: skip
    state = tensors(recipe.clip_state_dict(spec))
    common = {"num_tokens": 5, "rep_dim": 512, "rep_layers": list(range(1, 8)), "alpha": 0.7}
    frozen = CLIP.from_state_dict(state)
    if method == "mmrl":
        model = build_mmrl(frozen, tokenize(["a"]), **common)
    else:
        ranks = {"layer_rank": 4, "projection_rank": 64}
        model = build_mmrlpp(frozen, tokenize(["a"]), beta=0.5, **ranks, **common)
    saved = {key: list(value.shape) for key, value in learned_state(model).items()}
    assert list(saved) == want["trainable"]  # the order that published optimizer states rely on
    assert saved == {key: want["state_dict"][key][0] for key in want["trainable"]}
    assert sum(np.prod(shape) for shape in saved.values()) == want["n_trainable"]


def test_a_saved_checkpoint_holds_what_was_learned_and_nothing_else(clip_state):
    model = build(clip_state)
    keys = set(learned_state(model))
    assert all(re.match(r"representation_learner\.|image_encoder\.proj_rep$", k) for k in keys)


def test_a_torn_or_foreign_file_is_refused(tmp_path):
    target = tmp_path / "model.pth.tar-2"
    shutil.copy(find_checkpoint(str(PUBLISHED)), target)
    target.write_bytes(target.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"model\.pth\.tar-2"):
        read_checkpoint(target)
    torch.save({"weights": {}}, target)
    with pytest.raises(ValueError, match="no 'state_dict'"):
        read_checkpoint(target)
