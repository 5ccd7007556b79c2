"""A machine that seems to have a GPU: what is asked for on "cuda" is made on the CPU.

Every branch that a GPU takes can be run this way, on any machine, with real numbers.
"""

import contextlib

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NAME = "Pretended GPU"
PEAK_MIB = 3.0
RANDOM_STATE = torch.tensor([7], dtype=torch.uint8)
WAITS = {"item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__float__", "__int__"}


class Card(TorchFunctionMode):
    """Sends every call to the CPU; `log` has those for which a host waits for its GPU."""

    def __init__(self):
        super().__init__()
        self.log = []
        self.restored = []  # random states given back to the GPU
        self.is_used = False

    def on_cpu(self, value):
        is_cuda = isinstance(value, (str, torch.device)) and str(value).startswith("cuda")
        self.is_used |= is_cuda
        return torch.device("cpu") if is_cuda else value

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func is torch.device:  # a trainer's device keeps its name
            return func(*args, **kwargs)
        if name == "pin_memory":
            return args[0]
        if name in WAITS:
            self.log.append(name)
        kwargs = {key: self.on_cpu(value) for key, value in kwargs.items()}
        return func(*map(self.on_cpu, args), **kwargs)


class Recorder(TorchDispatchMode):
    """A graph: the operations of a function, replayed into the memory of their first results."""

    made = 0

    def __init__(self):
        super().__init__()
        self.calls = []
        self.replays = 0
        Recorder.made += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def capture(self, function):
        with self:
            return function()

    @torch.no_grad()
    def replay(self):
        self.replays += 1
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@contextlib.contextmanager
def pretended_card(monkeypatch):
    card = Card()
    answers = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "is_current_stream_capturing": lambda: False,
        "synchronize": lambda device=None: card.log.append("synchronize"),
        "get_device_name": lambda device=None: NAME,
        "mem_get_info": lambda device=None: (2 * 2**30, 4 * 2**30),
        "memory_allocated": lambda device=None: 2**20,
        "max_memory_allocated": lambda device=None: int(PEAK_MIB * 2**20),
        "reset_peak_memory_stats": lambda device=None: None,
        "get_rng_state_all": lambda: [RANDOM_STATE],
        "set_rng_state_all": card.restored.append,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    if hasattr(torch, "accelerator"):  # newer torch asks the driver itself
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_, **__: None)
    with card:
        yield card
