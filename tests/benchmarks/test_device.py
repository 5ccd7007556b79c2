"""What the benchmark asks of a GPU, asked of a pretended one, and of the CPU."""

import pytest
import torch
from torch.profiler import ProfilerActivity

from benchmarks.measure import count_kernels, pick_device, step_memory, time_interleaved
from benchmarks.run import available_gib
from card import PEAK_MIB, pretended_card

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def card(monkeypatch):
    with pretended_card(monkeypatch) as card:
        yield card


def step():
    torch.ones(8, 8) @ torch.ones(8, 8)


def test_a_card_is_picked_where_there_is_one(monkeypatch):
    with pretended_card(monkeypatch):
        assert pick_device() == CUDA
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device() == CPU


def test_times_are_taken_when_the_card_is_done(card):
    assert time_interleaved({"step": step}, 3, CUDA)["step"] > 0
    assert card.log == ["synchronize"] * 4  # one turn to warm up
    card.log.clear()
    time_interleaved({"step": step}, 3, CPU)
    assert card.log == []


def test_memory_of_a_step_is_the_card_s(card):
    assert step_memory(step, CUDA) == (PEAK_MIB - 1) / 1024  # one MiB was held before
    assert available_gib(CUDA) == 2.0


def test_memory_of_a_step_on_a_cpu_is_the_process_s():
    assert 0 <= step_memory(step, CPU) < available_gib(CPU)


def test_kernels_are_counted_on_a_card_only(card, monkeypatch):
    profile = torch.profiler.profile  # which does without the driver for the CPU alone
    monkeypatch.setattr(
        torch.profiler, "profile", lambda activities: profile(activities=[ProfilerActivity.CPU])
    )
    assert count_kernels(step, CUDA) == 0
    assert card.log == ["synchronize"]
    assert count_kernels(step, CPU) is None
