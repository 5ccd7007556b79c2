"""The demo's world, weights and data; the whole demo is the slow test."""

import json

import numpy as np
import pytest
import torch

import clip
from demo.data import CLASSES, COUNTS, write_data
from demo.pretrain import WEIGHTS, contrastive_loss, expand, main, to_pixels
from demo.run import main as run_demo
from demo.run import summarise
from demo.world import COLOURS, SHAPES, STUDIO, TEXTURES, render
from report.cells import harmonic_cell


def test_weights_are_small_and_load_as_a_clip(tmp_path):
    assert WEIGHTS.stat().st_size <= 4 * 2**20
    expand(WEIGHTS, tmp_path / "tiny.safetensors")
    sizes = clip.load(str(tmp_path / "tiny.safetensors")).sizes
    assert (sizes.vision_layers, sizes.text_layers, sizes.resolution) == (12, 12, 48)


def test_the_tiny_clip_knows_its_world(tmp_path):
    """Zero-shot over all 144 things, in the style that it was trained on."""
    expand(WEIGHTS, tmp_path / "tiny.safetensors")
    model = clip.load(str(tmp_path / "tiny.safetensors"))
    things = [(t, c, s) for t in TEXTURES for c in COLOURS for s in SHAPES]
    rng = np.random.default_rng(1)
    images = to_pixels(np.stack([render(rng, *thing, STUDIO) for thing in things]))
    tokens = clip.tokenize([f"a photo of a {' '.join(thing)}." for thing in things])
    with torch.no_grad():
        image, text = model.encode_image(images), model.encode_text(tokens[:, :14])
    scores = torch.nn.functional.normalize(image) @ torch.nn.functional.normalize(text).t()
    assert (scores.argmax(1) == torch.arange(144)).float().mean() > 0.8


def test_data_are_the_same_for_the_same_seed(tmp_path):
    for name in ("a", "b"):
        write_data(tmp_path / name, seed=3)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) == len(CLASSES) * sum(COUNTS.values()) + 1
    assert all(
        (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files
    )


def test_pretraining_lowers_the_loss_and_writes_a_file_that_loads(tmp_path):
    out = tmp_path / "x.safetensors"
    assert main(["--steps", "3", "--batch-size", "8", "--out", str(out)]) == 0
    expand(out, tmp_path / "full.safetensors")
    assert clip.load(str(tmp_path / "full.safetensors")).sizes.embed_dim == 64


def test_contrastive_loss_is_zero_for_a_perfect_match_with_doubles():
    features = torch.eye(3)
    caption = torch.tensor([0, 1, 2])
    loss = contrastive_loss(features, features, caption, torch.tensor(100.0))
    assert loss < 1e-6


def test_h_is_of_the_mean_accuracies():
    cell = harmonic_cell([70.0, 90.0], [60.0, 60.0])
    assert cell.mean == pytest.approx(2 * 80 * 60 / 140)
    assert cell.spread == pytest.approx((72 - 2 * 70 * 60 / 130) / 2)  # of the seeds' H


@pytest.mark.slow
def test_the_demo_shows_what_it_promises(tmp_path):
    assert run_demo(["--output", str(tmp_path)]) == 0
    table = summarise(tmp_path, [1, 2, 3])
    average = {m: {k: cell.mean for k, cell in row.items()} for m, row in table.items()}
    zero_shot = average.pop("ZeroshotCLIP")
    assert 40 <= zero_shot["base"] <= 85
    for row in average.values():
        assert row["base"] >= zero_shot["base"] + 8
        assert row["H"] > zero_shot["H"]
    assert (tmp_path / "demo.png").stat().st_size > 50_000
    results = tmp_path / "runs" / "MMRL" / "new" / "seed1" / "results.json"
    assert json.loads(results.read_text())["subsample_classes"] == "new"
