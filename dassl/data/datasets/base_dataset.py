"""One item, and the lists of items that make a data set."""

import os
import random
import sys
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from dassl.errors import RequestError

__all__ = ["DatasetBase", "Datum"]


class Datum:
    """A picture's path, its label from 0, its domain and its class name; read-only.

    Folder and file name are kept apart, and a folder once for all of its pictures: lists of a
    million items take a third less memory.

    Raises:
        RequestError: `impath` is not a string.
        FileNotFoundError: `impath` does not exist.
    """

    __slots__ = ("_classname", "_domain", "_folder", "_label", "_name")

    def __init__(
        self, impath: str = "", label: int = 0, domain: int = 0, classname: str = ""
    ) -> None:
        if not isinstance(impath, str):
            raise RequestError(f"impath must be a string, got {impath!r}")
        if not os.path.isfile(impath):
            raise FileNotFoundError(f"No image file at {impath!r}")
        self._set(impath, label, domain, classname)

    def _set(self, impath: str, label: int, domain: int, classname: str) -> None:
        folder, self._name = os.path.split(impath)
        self._folder = sys.intern(folder)
        self._label, self._domain, self._classname = label, domain, classname

    @classmethod
    def unchecked(cls, impath: str, label: int, domain: int, classname: str) -> "Datum":
        """An item whose file the caller checks, or has checked, for a whole list at once."""
        datum = cls.__new__(cls)
        datum._set(impath, label, domain, classname)
        return datum

    @property
    def impath(self) -> str:
        """Absolute path of the picture."""
        return os.path.join(self._folder, self._name)

    @property
    def label(self) -> int:
        """Class index, from 0."""
        return self._label

    @property
    def domain(self) -> int:
        """Domain index, 0 where there is one domain."""
        return self._domain

    @property
    def classname(self) -> str:
        """Class name as the reader yields it."""
        return self._classname

    def __getstate__(self) -> dict[str, Any]:
        """The attributes of upstream's class, so that pickles are exchanged."""
        return {
            "_impath": self.impath,
            "_label": self._label,
            "_domain": self._domain,
            "_classname": self._classname,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._set(state["_impath"], state["_label"], state["_domain"], state["_classname"])

    def __repr__(self) -> str:
        return f"Datum({self.impath!r}, {self._label}, {self._domain}, {self._classname!r})"


class DatasetBase:
    """`train_x`, `train_u`, `val`, `test`: lists of `Datum`, and the classes of `train_x`."""

    dataset_dir = ""
    domains: list[str] = []

    def __init__(
        self,
        train_x: list[Datum] | None = None,
        train_u: list[Datum] | None = None,
        val: list[Datum] | None = None,
        test: list[Datum] | None = None,
    ) -> None:
        if not train_x:
            raise RequestError(f"{type(self).__name__} has no training items (train_x is empty)")
        self._train_x, self._train_u, self._val, self._test = train_x, train_u, val, test
        self._num_classes = self.get_num_classes(train_x)
        self._lab2cname, self._classnames = self.get_lab2cname(train_x)

    @property
    def train_x(self) -> list[Datum]:
        """Labelled training items."""
        return self._train_x

    @property
    def train_u(self) -> list[Datum] | None:
        """Unlabelled training items."""
        return self._train_u

    @property
    def val(self) -> list[Datum] | None:
        """Validation items."""
        return self._val

    @property
    def test(self) -> list[Datum] | None:
        """Test items."""
        return self._test

    @property
    def lab2cname(self) -> dict[int, str]:
        """Label -> class name."""
        return self._lab2cname

    @property
    def classnames(self) -> list[str]:
        """Class names by ascending label."""
        return self._classnames

    @property
    def num_classes(self) -> int:
        """The highest label of `train_x` plus one."""
        return self._num_classes

    @staticmethod
    def get_num_classes(data_source: Sequence[Datum]) -> int:
        """The highest label plus one."""
        return max(item.label for item in data_source) + 1

    @staticmethod
    def get_lab2cname(data_source: Sequence[Datum]) -> tuple[dict[int, str], list[str]]:
        """(label -> name, names by ascending label).

        Raises:
            RequestError: one label has two names.
        """
        names: dict[int, str] = {}
        for item in data_source:
            if names.setdefault(item.label, item.classname) != item.classname:
                raise RequestError(
                    f"Label {item.label} is named both {names[item.label]!r} and "
                    f"{item.classname!r} (at {item.impath}); a label has one name"
                )
        names = dict(sorted(names.items()))
        return names, list(names.values())

    def is_input_domain_valid(self, domains: Sequence[str]) -> None:
        """Refuse domains that the data set does not have.

        Raises:
            RequestError: names the domain and those that exist.
        """
        for domain in domains:
            if domain not in self.domains:
                raise RequestError(f"Domain {domain!r} is not one of {self.domains}")

    def check_input_domains(
        self, source_domains: Sequence[str], target_domains: Sequence[str]
    ) -> None:
        """Both lists must have something in them, and only domains that exist."""
        for name, given in (("source", source_domains), ("target", target_domains)):
            if not given:
                raise RequestError(f"The list of {name} domains is empty")
            self.is_input_domain_valid(given)

    def generate_fewshot_dataset(
        self, *data_sources: list[Datum], num_shots: int = -1, repeat: bool = False
    ) -> Any:
        """Draw `num_shots` items per class, with Python's global generator.

        Below 1 shot the input comes back: one list as it is, several as a tuple. Classes go in
        order of first appearance; a class of fewer items gives them all, or with `repeat` draws
        with replacement. One list in, one out; several in, a list of lists.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        print(f"Creating a {num_shots}-shot dataset")
        drawn = [self._draw(source, num_shots, repeat) for source in data_sources]
        return drawn[0] if len(drawn) == 1 else drawn

    def _draw(self, data_source: list[Datum], num_shots: int, repeat: bool) -> list[Datum]:
        dataset = []
        for items in self.split_dataset_by_label(data_source).values():
            if len(items) >= num_shots:
                dataset.extend(random.sample(items, num_shots))
            elif repeat:
                dataset.extend(random.choices(items, k=num_shots))
            else:
                dataset.extend(items)
        return dataset

    def split_dataset_by_label(self, data_source: Sequence[Datum]) -> dict[int, list[Datum]]:
        """Label -> items, labels in order of first appearance."""
        groups = defaultdict(list)
        for item in data_source:
            groups[item.label].append(item)
        return groups

    def split_dataset_by_domain(self, data_source: Sequence[Datum]) -> dict[int, list[Datum]]:
        """Domain -> items, domains in order of first appearance."""
        groups = defaultdict(list)
        for item in data_source:
            groups[item.domain].append(item)
        return groups

    def download_data(self, url: str, dst: str, from_gdrive: bool = True) -> None:
        """Fetch an archive with gdown into the file `dst` and unpack it beside itself.

        Raises:
            NotImplementedError: another source than Google Drive, or another kind of archive.
        """
        if not from_gdrive:
            raise NotImplementedError("Only downloads from Google Drive are known here")
        os.makedirs(os.path.dirname(dst) or ".", exist_ok=True)
        import gdown

        gdown.download(url, dst, quiet=False)
        folder = os.path.dirname(dst) or "."
        if dst.endswith(".zip"):
            with zipfile.ZipFile(dst) as archive:
                archive.extractall(folder)
        elif dst.endswith((".tar", ".tar.gz", ".tgz")):
            with tarfile.open(dst) as archive:
                archive.extractall(folder, filter="data")
        else:
            raise NotImplementedError(f"Cannot unpack {dst!r}: not a .zip, .tar or .tar.gz")
