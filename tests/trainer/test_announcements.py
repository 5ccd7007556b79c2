"""What is said, or refused, before training starts."""

import pytest
import torch

from conftest import build_cfg
from trainer.backbone import check_backbone
from trainer.baselines.zero_shot import ZeroshotCLIP
from trainer.class_names import as_read
from trainer.published_values import chance_note, equal_prompts, prompts


def test_prompts_that_clip_reads_alike_are_named():
    assert equal_prompts(["a photo of a cat.", "a photo of a dog."]) == ""
    assert "labels 0 and 2" in equal_prompts(["a Cat.", "a dog.", "a  cat."])
    assert as_read("Annual_Crop ") == as_read("annual crop")


@pytest.mark.parametrize(
    ("percent", "classes", "is_near"),
    [
        (10, 10, True),
        (30, 10, False),
        (52, 2, True),
        (70, 2, False),
        (1.5, 100, True),
        (100, 1, False),
    ],
)
def test_zero_shot_near_chance_is_said(percent, classes, is_near):
    assert bool(chance_note(percent, classes)) is is_near


def test_a_class_without_a_name_and_odd_templates_are_refused():
    with pytest.raises(ValueError, match=r"Class 1 has an empty name"):
        prompts(["cat", " "], "")
    for template in ("photo", "{} and {}", "{0}", "{"):
        with pytest.raises(ValueError, match=r"must have one \{\} where"):
            prompts(["cat"], "", template)


def test_the_backbone_is_checked_before_the_data(tmp_path, monkeypatch):
    torch.save({"weights": torch.ones(1)}, tmp_path / "demo.pt")
    cfg = build_cfg(tmp_path, 1, "all")
    cfg.defrost()
    cfg.MODEL.BACKBONE.NAME = str(tmp_path / "demo.pt")
    monkeypatch.setattr(ZeroshotCLIP, "build_data_loader", lambda self: pytest.fail("too early"))
    with pytest.raises(ValueError, match=r"demo\.pt"):
        ZeroshotCLIP(cfg)


def test_a_backbone_of_another_size_is_refused(clip_file, tmp_path):
    cfg = build_cfg(tmp_path, 1, "all")
    cfg.defrost()
    cfg.MODEL.BACKBONE.NAME = clip_file
    with pytest.raises(ValueError, match=r'set INPUT\.SIZE "\(32,32\)"'):
        check_backbone(cfg)
