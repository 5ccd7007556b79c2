"""Which GPUs a sweep uses: those named, those visible, else those that the driver lists."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweep.local import slot_environments
from sweep.ray_engine import run_on_ray


@pytest.fixture
def two_cards(monkeypatch):
    """The driver's folder with two cards."""
    real = Path.glob

    def glob(path, pattern):
        if str(path) == "/proc/driver/nvidia/gpus":
            return iter([path / "0000:01:00.0", path / "0000:02:00.0"])
        return real(path, pattern)

    monkeypatch.setattr(Path, "glob", glob)


@pytest.mark.parametrize(
    ("visible", "names"), [(None, ["0", "1"]), ("3", ["3"]), ("2,GPU-5f", ["2", "GPU-5f"])]
)
def test_a_slot_a_card(two_cards, monkeypatch, visible, names):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert slot_environments("", 1) == [{"CUDA_VISIBLE_DEVICES": name} for name in names]


def test_no_card_is_visible(two_cards, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [list(slot) for slot in slot_environments("", 1)] == [["OMP_NUM_THREADS"]]


@pytest.mark.parametrize(("resources", "num_gpus"), [({"GPU": 4.0}, 1), ({"CPU": 8.0}, 0)])
def test_ray_gives_a_task_a_card_where_there_are_any(monkeypatch, resources, num_gpus):
    asked = {}
    ray = SimpleNamespace(
        init=lambda **_: None,
        cluster_resources=lambda: resources,
        remote=lambda **options: asked.update(options) or (lambda task: task),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert run_on_ray([], None, None) == {}
    assert asked["num_gpus"] == num_gpus
