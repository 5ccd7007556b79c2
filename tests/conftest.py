"""The smallest real things: golden inputs, a tiny CLIP on disk, a small EuroSAT tree, a config."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
GOLDEN = Path(os.environ.get("GOLDEN_DIR", REPOSITORY / "tests" / "golden")).resolve()
PUBLISHED_SPEC = {
    "seed": 78,
    "resolution": 32,
    "patch": 8,
    "vision_width": 64,
    "vision_layers": 4,
    "text_width": 64,
    "text_layers": 4,
    "embed_dim": 32,
    "context_length": 77,
    "vocab_size": 49408,
}
EUROSAT_CLASSES = [
    "Annual Crop Land",
    "Forest",
    "Herbaceous Vegetation Land",
    "Highway or Road",
    "Industrial Buildings",
    "Pasture Land",
    "Permanent Crop Land",
    "Residential Buildings",
    "River",
    "Sea or Lake",
]

GAPS: list[float] = []  # relative differences that the running test has found

torch.set_num_threads(1)  # the suite runs one worker a core


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--device cuda`: the published numbers on a GPU; `make gpu-check` asks for it."""
    parser.addoption("--device", default="cpu", help="of the golden cases and the seeded runs")


@pytest.fixture
def device(request) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(autouse=True)
def record_gap(record_property):
    """The largest of `GAPS`, into the report that `--junitxml` writes."""
    from conftest import GAPS as gaps  # the tests' copy: pytest loads this file by its path

    gaps.clear()
    yield
    if gaps:
        record_property("gap", max(gaps))


def load_recipe() -> ModuleType:
    """`recipe.py` of the golden folder."""
    spec = importlib.util.spec_from_file_location("golden_recipe", GOLDEN / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


recipe = load_recipe()


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(np.asarray(value)) for key, value in arrays.items()}


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def clip_state() -> dict[str, torch.Tensor]:
    """Random weights of a CLIP with 4 + 4 layers of width 64, under OpenAI's keys."""
    return tensors(recipe.clip_state_dict(PUBLISHED_SPEC))


@pytest.fixture(scope="session")
def clip_file(clip_state, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("clip") / "tiny.pt"
    torch.save(clip_state, path)
    return str(path)


@pytest.fixture(scope="session")
def eurosat_root(tmp_path_factory) -> Path:
    """A EuroSAT tree: 10 classes, 6 train, 2 val and 3 test pictures of 40 x 36 pixels each."""
    root = tmp_path_factory.mktemp("data")
    write_eurosat(root, per_part={"train": 6, "val": 2, "test": 3})
    return root


def write_eurosat(root: Path, per_part: dict[str, int]) -> None:
    rng = np.random.default_rng(0)
    split = {part: [] for part in per_part}
    for label, name in enumerate(EUROSAT_CLASSES):
        folder = root / "eurosat" / "2750" / name.replace(" ", "")
        folder.mkdir(parents=True)
        base = rng.integers(0, 255, (1, 1, 3))
        for part, count in per_part.items():
            for number in range(count):
                noise = rng.normal(0, 40, (36, 40, 3))
                pixels = (base + noise).clip(0, 255).astype(np.uint8)
                path = folder / f"{part}_{number}.jpg"
                Image.fromarray(pixels).save(path)
                split[part].append([f"{folder.name}/{path.name}", label, name])
    with open(root / "eurosat" / "split_zhou_EuroSAT.json", "w") as file:
        json.dump(split, file, indent=4)


TINY_OPTIONS = [
    "INPUT.SIZE",
    "(32,32)",
    "DATALOADER.NUM_WORKERS",
    "0",
    "DATASET.NUM_SHOTS",
    "4",
    "TRAIN.PRINT_FREQ",
    "1",
]
METHOD_OPTIONS = ["PREC", "fp32", "REP_LAYERS", "[2, 3, 4]", "REP_DIM", "16"]


def train_arguments(
    root: Path, out: Path, clip_file: str, trainer: str = "MMRL", seed: int = 1
) -> list[str]:
    """Arguments of train.py for a run of seconds on the small tree."""
    method = [
        f"TRAINER.{trainer}.{part}" if i % 2 == 0 else part for i, part in enumerate(METHOD_OPTIONS)
    ]
    return [
        *("--root", str(root), "--output-dir", str(out), "--backbone", clip_file),
        *("--seed", str(seed), "--trainer", trainer),
        *("--dataset-config-file", str(REPOSITORY / "configs/datasets/eurosat.yaml")),
        *("--config-file", str(REPOSITORY / f"configs/trainers/{trainer}/vit_b16.yaml")),
        *TINY_OPTIONS,
        *(method if trainer != "ZeroshotCLIP" else []),
    ]


@pytest.fixture(autouse=True)
def restore_stdout():
    """`setup_logger` replaces stdout for the process; a test must not leave that to the next."""
    before = sys.stdout
    yield
    sys.stdout = before


def build_cfg(root: Path, num_shots: int, subsample: str, seed: int = 1, name: str = "EuroSAT"):
    """A config that says which data set to read, and how."""
    import datasets  # noqa: F401  registers the readers
    from trainer.config import build_config

    values = {
        "DATASET.ROOT": str(root),
        "DATASET.NAME": name,
        "DATASET.NUM_SHOTS": num_shots,
        "DATASET.SUBSAMPLE_CLASSES": subsample,
        "SEED": seed,
    }
    return build_config(flags=values)[0]
