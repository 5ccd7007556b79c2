"""What results.json says of the machine, also where the machine does not say it."""

import sys

import torch

from trainer.evaluation import results

CPU = torch.device("cpu")


def test_memory_is_in_mib_and_none_on_a_system_without_the_figure(monkeypatch):
    before = results._peak_memory(CPU)["process"]
    assert 50 < before < 100_000
    monkeypatch.setitem(sys.modules, "resource", None)
    assert results._peak_memory(CPU) == {"process": None}


def test_macos_counts_bytes(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    kib = results._peak_memory(CPU)["process"]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert 1000 < kib / results._peak_memory(CPU)["process"] < 1030


def test_a_processor_without_proc_is_named_by_its_kind(monkeypatch):
    monkeypatch.setattr(results, "system_lines", lambda _: [])
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert results.device_name(CPU) == "arm64"
