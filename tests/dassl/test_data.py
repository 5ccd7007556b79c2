"""Items, loaders, order, transforms, few-shot helper: items 11 to 15 of the API's checklist."""

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image

from dassl.config import get_cfg_default
from dassl.data import DatasetWrapper
from dassl.data.cache import PixelCache
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import DatasetBase, Datum
from dassl.data.samplers import build_sampler
from dassl.data.transforms import build_transform


@pytest.fixture
def cfg():
    cfg = get_cfg_default()
    cfg.INPUT.SIZE = (16, 16)
    cfg.DATALOADER.NUM_WORKERS = 0
    return cfg


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    data = []
    for i in range(20):
        path = folder / f"{i}.png"
        Image.fromarray(np.full((20, 30, 3), i * 10, np.uint8)).save(path)
        data.append(Datum(str(path), label=i % 4, domain=i % 2, classname=f"class {i % 4}"))
    return data


def loader(cfg, items, batch, is_train, sampler="SequentialSampler", **kwargs):
    tfm = build_transform(cfg, is_train=is_train)
    return build_data_loader(
        cfg, sampler, items, batch_size=batch, tfm=tfm, is_train=is_train, **kwargs
    )


@pytest.mark.parametrize(("batch", "sizes"), [(6, [6] * 3), (20, [20]), (32, [20])])
def test_training_drops_the_last_batch_only_if_there_is_a_whole_one(cfg, items, batch, sizes):
    assert [len(b["label"]) for b in loader(cfg, items, batch, True)] == sizes


def test_test_order_is_sequential_and_labels_are_int64(cfg, items):
    batches = list(loader(cfg, items, 6, False))
    assert [len(b["label"]) for b in batches] == [6, 6, 6, 2]
    assert torch.cat([b["index"] for b in batches]).tolist() == list(range(20))
    assert batches[0]["label"].dtype == torch.int64
    assert list(batches[0]) == ["label", "domain", "impath", "index", "img"]


def test_an_empty_loader_is_refused(cfg, items):
    with pytest.raises(ValueError, match=r"test loader is empty: 0 items.*SequentialSampler"):
        loader(cfg, items[:0], 4, False)


def test_wrapper_s_variants(cfg, items):
    tfm = build_transform(cfg, is_train=False)
    cfg.DATALOADER.K_TRANSFORMS, cfg.DATALOADER.RETURN_IMG0 = 2, True
    item = DatasetWrapper(cfg, items, tfm, is_train=True)[3]
    assert [x.shape for x in item["img"]] == [(3, 16, 16)] * 2
    assert item["img0"].shape == (3, 16, 16)
    assert DatasetWrapper(cfg, items, [tfm, tfm])[0].keys() >= {"img", "img2"}
    cfg.DATALOADER.K_TRANSFORMS = 1
    assert isinstance(DatasetWrapper(cfg, items)[0]["img"], Image.Image)
    cfg.DATALOADER.K_TRANSFORMS = 2
    with pytest.raises(ValueError, match="NO_TRANSFORM"):
        DatasetWrapper(cfg, items, None, is_train=True)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_image_order_follows_two_draws_an_epoch(cfg, items, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    data = loader(cfg, items, 5, True, "RandomSampler")
    torch.manual_seed(7)
    got = [torch.cat([b["index"] for b in data]).tolist() for _ in range(3)]
    torch.manual_seed(7)
    for order in got:
        torch.empty((), dtype=torch.int64).random_()  # the workers' base seed
        seed = int(torch.empty((), dtype=torch.int64).random_().item())
        generator = torch.Generator().manual_seed(seed)
        assert order == torch.randperm(20, generator=generator).tolist()


def test_kept_workers_give_what_fresh_ones_give(cfg, items):
    """Augmentations too: a resumed run has fresh workers where the other kept its own."""
    cfg.DATALOADER.NUM_WORKERS = 2
    choices = ("random_resized_crop", "random_flip", "colorjitter", "random_translation")
    cfg.INPUT.TRANSFORMS = choices
    kept = loader(cfg, items, 5, True, "RandomSampler")
    torch.manual_seed(7)
    list(kept), list(kept)
    state = torch.get_rng_state()
    want = torch.cat([b["img"] for b in kept])
    torch.set_rng_state(state)
    fresh = loader(cfg, items, 5, True, "RandomSampler")
    assert torch.equal(torch.cat([b["img"] for b in fresh]), want)


@pytest.mark.parametrize("workers", [0, 2])
def test_cached_pictures_have_the_same_pixels(cfg, items, workers):
    from yacs.config import CfgNode

    cfg.DATALOADER.NUM_WORKERS = workers
    results = []
    for limit in (0, 1):
        own = cfg.clone()
        own.DATALOADER = CfgNode(dict(cfg.DATALOADER) | {"CACHE_MB": limit})
        data = loader(own, items, 5, True, "RandomSampler")
        assert (data.dataset.cache is None) == (limit == 0)
        torch.manual_seed(3)
        results.append([torch.cat([b["img"] for b in data]) for _ in range(3)])
    for plain, cached in zip(*results, strict=True):
        assert torch.equal(plain, cached)


def test_a_cache_that_does_not_fit_is_left_out(items):
    paths = [item.impath for item in items]
    assert PixelCache.if_it_fits(paths, 1) is not None
    assert PixelCache.if_it_fits(paths * 40, 1) is None


def test_datum_is_read_only_and_checks_its_file(items):
    with pytest.raises(AttributeError):
        items[0].label = 3
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        Datum("nowhere.png")
    with pytest.raises(ValueError, match="string"):
        Datum(3)


def test_datum_pickles_are_exchanged_with_upstream(items):
    copy = pickle.loads(pickle.dumps(items[1]))
    assert (copy.impath, copy.label, copy.classname) == (items[1].impath, 1, "class 1")
    plain = {"_impath": "moved.png", "_label": 2, "_domain": 0, "_classname": "x"}
    assert items[0].__getstate__().keys() == plain.keys()
    moved = Datum.__new__(Datum)
    moved.__setstate__(plain)  # what unpickling upstream's file calls
    assert (moved.impath, moved.label) == ("moved.png", 2)


def test_dataset_base_refuses_two_names_for_one_label(items):
    other = Datum(items[0].impath, 0, 0, "other")
    with pytest.raises(ValueError, match=r"Label 0.*'class 0'.*'other'"):
        DatasetBase(train_x=[items[0], other])
    with pytest.raises(ValueError, match="train_x is empty"):
        DatasetBase(train_x=[])


def test_few_shot_helper(items, capsys):
    base = DatasetBase(train_x=items, test=items)
    assert base.generate_fewshot_dataset(items, num_shots=0) is items
    assert base.generate_fewshot_dataset(items, items) == (items, items)
    assert capsys.readouterr().out == ""
    random.seed(3)
    got = base.generate_fewshot_dataset(items, items[:4], num_shots=5)
    assert capsys.readouterr().out == "Creating a 5-shot dataset\n"
    random.seed(3)
    groups = [[x for x in items if x.label == label] for label in range(4)]
    want = [x for group in groups for x in random.sample(group, 5)]  # n == k is drawn too
    assert got == [want, items[:4]]  # n < k: all, in order, no draw
    repeated = base.generate_fewshot_dataset(items[:4], num_shots=3, repeat=True)
    assert len(repeated) == 12


STEPS = {
    (): ["resize to 16x16"],
    ("random_translation",): ["resize to 16x16", "random translation"],
    ("random_crop", "random_flip"): ["random crop (padding = 4)", "random flip"],
    ("random_flip", "random_resized_crop"): [
        "random resized crop (size=(16, 16), scale=(0.08, 1.0))",
        "random flip",
    ],
    ("colorjitter",): [
        "resize to 16x16",
        "color jitter (brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)",
    ],
    ("randaugment",): ["resize to 16x16", "randaugment (n=2, m=10)"],
    ("imagenet_policy",): ["resize to 16x16", "imagenet policy"],
    ("randomgrayscale",): ["resize to 16x16", "random gray scale"],
    ("gaussian_blur",): ["resize to 16x16", "gaussian blur (kernel=21)"],
}


@pytest.mark.parametrize("choices", STEPS)
def test_training_transform_prints_and_does_its_steps(cfg, capsys, choices):
    pipeline = build_transform(cfg, is_train=True, choices=choices)
    lines = capsys.readouterr().out.splitlines()
    want = ["Building transform_train", *(f"+ {s}" for s in STEPS[choices])]
    assert lines == [*want, "+ to torch tensor of range [0, 1]"]
    assert pipeline(Image.new("RGB", (40, 30))).shape == (3, 16, 16)


def test_tensor_steps_come_after_to_tensor(cfg, capsys):
    choices = ("instance_norm", "gaussian_noise", "normalize", "cutout")
    pipeline = build_transform(cfg, choices=choices)
    lines = [line.split(" (")[0] for line in capsys.readouterr().out.splitlines()[3:]]
    assert lines == ["+ cutout", "+ normalization", "+ gaussian noise", "+ instance normalization"]
    assert pipeline(Image.new("RGB", (40, 30))).shape == (3, 16, 16)


@pytest.mark.parametrize("size", [(40, 30), (30, 40), (8, 9)])
def test_test_transform_gives_the_size_for_any_picture(cfg, capsys, size):
    pipeline = build_transform(cfg, is_train=False)
    assert capsys.readouterr().out.splitlines() == [
        "Building transform_test",
        "+ resize the smaller edge to 16",
        "+ 16x16 center crop",
        "+ to torch tensor of range [0, 1]",
    ]
    assert pipeline(Image.new("RGB", size)).shape == (3, 16, 16)


def test_interpolation_is_honoured(cfg):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8))
    results = []
    for name in ("bilinear", "bicubic", "nearest"):
        cfg.INPUT.INTERPOLATION = name
        results.append(build_transform(cfg, is_train=False)(image))
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(results[1], results[2])


def test_unknown_choices_are_named(cfg):
    with pytest.raises(ValueError, match="random_flop"):
        build_transform(cfg, choices=("random_flop",))
    cfg.INPUT.INTERPOLATION = "cubic"
    with pytest.raises(ValueError, match="cubic"):
        build_transform(cfg)


def test_unreadable_image_is_named(cfg, tmp_path):
    path = tmp_path / "torn.jpg"
    path.write_bytes(b"\xff\xd8\xff not a picture")
    with pytest.raises(ValueError, match=r"torn\.jpg"):
        DatasetWrapper(cfg, [Datum(str(path))])[0]


@pytest.mark.parametrize("name", ["RandomDomainSampler", "SeqDomainSampler"])
def test_domain_samplers_balance_batches(items, name):
    order = list(build_sampler(name, data_source=items, batch_size=4, n_domain=2))
    for start in range(0, len(order), 4):
        assert sum(items[i].domain for i in order[start : start + 4]) == 2
    assert len(order) == len(set(order)) == 20


def test_class_sampler_groups_instances(items):
    order = list(build_sampler("RandomClassSampler", data_source=items, batch_size=4, n_ins=2))
    assert len(order) % 4 == 0
    for start in range(0, len(order), 2):
        assert len({items[i].label for i in order[start : start + 2]}) == 1
    with pytest.raises(ValueError, match="n_ins=8"):
        build_sampler("RandomClassSampler", data_source=items, batch_size=4, n_ins=8)
    with pytest.raises(ValueError, match="Shuffled"):
        build_sampler("Shuffled", data_source=items)
