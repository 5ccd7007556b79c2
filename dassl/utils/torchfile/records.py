"""What stands for the things of a file that are not data: names and attributes, no more."""

from dassl.errors import RequestError

__all__ = ["Name", "NumpyType", "Record", "UnsafeFileError"]


class UnsafeFileError(RequestError):
    """A file asks for something that is not data, or for more than it holds. Nothing was run."""


class Name:
    """A function or class that a file names. It can be compared with the known names, no more."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Name({self.text!r})"


class Record(dict):
    """An object of a file as its attributes: `record["last_epoch"]`; `name` is its class's."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def __repr__(self) -> str:
        return f"Record({self.name!r}, {super().__repr__()})"


class NumpyType:
    """The format of a NumPy number, in the letters of `struct`."""

    __slots__ = ("form",)

    def __init__(self, form: str) -> None:
        self.form = form
