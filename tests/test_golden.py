"""Every number that the published implementation computed, from the inputs of golden/recipe.py."""

import numpy as np
import pytest
import torch

from clip import tokenize
from clip.model import CLIP
from conftest import EUROSAT_CLASSES, GAPS, GOLDEN, PUBLISHED_SPEC, recipe, tensors
from trainer.checkpoints.find import find_checkpoint, read_checkpoint
from trainer.checkpoints.keys import entries, learned_state, load_learned
from trainer.method.build import build_mmrl, build_mmrlpp
from trainer.method.model import MMRLModel, mmrl_loss
from trainer.published_values import prompts

CASES = sorted(recipe.CASES)
CARD_RTOL = 1e-3  # a GPU adds in another order, and its libraries choose other kernels


def build_case(case: dict, device: str | torch.device = "cpu") -> MMRLModel:
    frozen = CLIP.from_state_dict(tensors(recipe.clip_state_dict(case["clip"]))).round_to_half()
    tokens = tokenize(prompts(case["classnames"], case["dataset"]))
    common = {
        "num_tokens": case["n_rep_tokens"],
        "rep_dim": case["rep_dim"],
        "rep_layers": case["rep_layers"],
        "alpha": case["alpha"],
    }
    if case["trainer"] == "MMRL":
        model = build_mmrl(frozen, tokens, **common)
    else:
        ranks = {"layer_rank": case["res_lora_dim"], "projection_rank": case["proj_lora_dim"]}
        model = build_mmrlpp(frozen, tokens, beta=case["beta"], **ranks, **common)
    load_learned(model, tensors(recipe.learnable_state_dict(case)))
    # torch lets convolutions round float32 on a GPU
    torch.backends.cudnn.allow_tf32 = False
    return model.to(device)


def golden(name: str) -> dict[str, torch.Tensor]:
    return tensors(dict(np.load(GOLDEN / f"{name}.npz")))


def evaluate(model: MMRLModel, images: torch.Tensor):
    model.eval()
    with torch.no_grad():
        return model(images), model.frozen_features(images)


def assert_same(got: torch.Tensor, want: torch.Tensor, atol: float) -> None:
    if got.device.type != "cpu":
        return assert_near_in_norm(got, want, CARD_RTOL, "a result")
    torch.testing.assert_close(got, want, rtol=0, atol=atol)


def assert_near_in_norm(got: torch.Tensor, want: torch.Tensor, rtol: float, what: str) -> None:
    rtol = rtol if got.device.type == "cpu" else max(rtol, CARD_RTOL)
    gap = float((got.cpu() - want).norm() / want.norm().clamp(min=1e-12))
    GAPS.append(gap)
    assert gap < rtol, f"{what}: relative difference {gap:.2e}"


@pytest.mark.parametrize("name", CASES)
def test_evaluation_equals_the_published_one(name, device):
    case, want = recipe.CASES[name], golden(name)
    images, _ = recipe.batches(case)
    out, frozen = evaluate(build_case(case, device), torch.from_numpy(images[0]).to(device))
    assert_same(out.logits, want["eval_logits"], 1e-4)
    assert_same(out.logits_rep, want["eval_logits_rep"], 1e-4)
    assert_same(out.fusion, want["eval_logits_fusion"], 1e-4)
    assert_same(out.image, want["eval_image_features"], 1e-6)
    assert_same(out.text, want["eval_text_features"], 1e-6)
    assert_same(frozen.image, want["clip_image_features"], 1e-6)
    assert_same(frozen.text, want["clip_text_features"], 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_training_equals_the_published_one(name, device):
    case, want = recipe.CASES[name], golden(name)
    images, labels = (torch.from_numpy(array).to(device) for array in recipe.batches(case))
    model = build_case(case, device).train()
    learned = model.learned()
    optimizer = torch.optim.AdamW(
        learned.values(), lr=case["lr"], weight_decay=case["weight_decay"]
    )
    for step in range(case["steps"]):
        out, frozen = model(images[step]), model.frozen_features(images[step])
        loss = mmrl_loss(
            out, frozen, labels[step], alpha=case["alpha"], reg_weight=case["reg_weight"]
        )
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            for e in entries(learned):
                grad = e.of(learned[e.name].grad)
                assert_near_in_norm(grad, want[f"grad0.{e.key}"], 1e-4, f"gradient of {e.key}")
        assert_near_in_norm(loss.detach(), want["losses"][step], 1e-4, f"loss of step {step}")
        optimizer.step()
    for key, value in learned_state(model).items():
        assert_near_in_norm(value, want[f"final.{key}"], 1e-3, key)
    out, _ = evaluate(model, images[0])
    assert_near_in_norm(out.logits, want["final_logits"], 1e-3, "final logits")
    assert_near_in_norm(out.logits_rep, want["final_logits_rep"], 1e-3, "final logits_rep")
    assert_near_in_norm(out.fusion, want["final_logits_fusion"], 1e-3, "final fusion")


@pytest.mark.parametrize("name", CASES)
def test_exactly_the_published_tensors_are_trained(name):
    learned = build_case(recipe.CASES[name]).learned()
    want = recipe.learnable_state_dict(recipe.CASES[name])
    assert {entry.key for entry in entries(learned)} == set(want)


@pytest.mark.skipif(
    not (GOLDEN / "published_checkpoint").is_dir(), reason="this golden folder has no checkpoint"
)
@pytest.mark.parametrize("half", ["base", "new"])
def test_published_checkpoint_gives_its_logits(half):
    names = EUROSAT_CLASSES[:5] if half == "base" else EUROSAT_CLASSES[5:]
    frozen = CLIP.from_state_dict(tensors(recipe.clip_state_dict(PUBLISHED_SPEC))).round_to_half()
    tokens = tokenize(prompts(names, "EuroSAT"))
    model = build_mmrl(frozen, tokens, num_tokens=5, rep_dim=64, rep_layers=[2, 3, 4], alpha=0.7)
    folder = GOLDEN / "published_checkpoint"
    load_learned(model, read_checkpoint(find_checkpoint(str(folder)))["state_dict"])
    noise = np.random.RandomState(99).standard_normal((6, 3, 32, 32)).astype("float32")
    out, _ = evaluate(model, torch.from_numpy(noise))
    want = tensors(dict(np.load(folder / "logits.npz")))
    assert_same(out.logits, want[f"{half}_logits"], 1e-4)
    assert_same(out.logits_rep, want[f"{half}_logits_rep"], 1e-4)
    assert_same(out.fusion, want[f"{half}_logits_fusion"], 1e-4)
