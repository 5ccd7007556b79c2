"""Shapes: the generated pictures of the demo, laid out as EuroSAT is."""

from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Reader, Split
from datasets.split_file import read_split


@DATASET_REGISTRY.register()
class Shapes(Reader):
    """`shapes/images/<class>/*.png` with `shapes/split_shapes.json`; `make demo` draws them."""

    def locate(self, root: Path) -> Path:
        """`root`/shapes."""
        return root / "shapes"

    def read(self, folder: Path, allow_official: bool) -> Split:
        """The split file.

        Raises:
            FileNotFoundError: the demo has not drawn its pictures there.
        """
        path = folder / "split_shapes.json"
        if not path.is_file():
            raise FileNotFoundError(f"No split file at {str(path)!r}: 'make demo' writes it")
        return read_split(path, folder / "images")
