"""Torch files -> plain data: `read(path)`, for files of `torch.save` and TorchScript archives.

Such a file is a zip that holds one pickle and the raw bytes of every tensor; `read_pickle(path)` is
for a pickle alone. The few modules here read both, and none can run what a file brings along:

- `archive` finds the entries of the zip. It copies bytes and knows no compression.
- `opcodes` walks through the pickle. Its table has what `torch.save` writes; others are refused.
- `names` has the only names that a file may use. A name stays a word: nothing is imported or looked
  up. A call of it picks a function of that table, which builds a number, a container or a tensor.
- `records` has what stands for an object of a class: its class's name and its attributes.
- `tensors` builds tensors that lie inside of the bytes that the file really has.
- `limits` bounds steps, depth and size, so that a small file costs little, whatever is in it.
"""

from dassl.utils.torchfile.reader import named_tensors, read, read_pickle
from dassl.utils.torchfile.records import Record, UnsafeFileError

__all__ = ["Record", "UnsafeFileError", "named_tensors", "read", "read_pickle"]
