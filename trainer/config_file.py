"""A yaml file of config values -> its leaves by full key; nothing in it is executed.

YAML 1.1, which PyYAML reads, has numbers that look like others: 010 is 8 and 1:30 is 90. Such a
value, and a key that is there twice, would change a run in silence, and is refused.
"""

import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from dassl.errors import RequestError, read_text

__all__ = ["read_yaml"]

# What PyYAML's own constructors raise for a value that its tag does not fit, besides its errors.
_UNFIT = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_MAX_DEPTH, _MAX_LEAVES = 10, 10_000  # aliases can make a small file endless
_MISLEADING = re.compile(r"[-+]?(0[0-9_]+|[0-9][0-9_]*(:[0-9_.]+)+)")


class _Loader(yaml.SafeLoader):
    """Plain values alone, each as it looks."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """As the parent's, of keys that differ."""
        written = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [str(key) for key in written if written.count(key) > 1 and key != "<<"]:
            raise self._refusal(f"the key {twice[0]!r} is there twice", node)
        return super().construct_mapping(node, deep=deep)

    def construct_number(self, node: Any) -> Any:
        """A whole number or a fraction, in the notation that everyone reads alike."""
        if _MISLEADING.fullmatch(text := self.construct_scalar(node)):
            raise self._refusal(f"{text} is another number in yaml; write it in decimals", node)
        is_int = node.tag.endswith(":int")
        return self.construct_yaml_int(node) if is_int else self.construct_yaml_float(node)

    @staticmethod
    def _refusal(problem: str, node: Any) -> yaml.MarkedYAMLError:
        return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.construct_number)


def read_yaml(path: str) -> dict[str, Any]:
    """The leaves of a yaml file. Read here, because yacs would execute a file named *.py.

    Raises:
        FileNotFoundError: there is no such file.
        RequestError: it is not yaml, has a key twice, or is no tree of KEY: value pairs.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"No config file at {path!r}")
    if Path(path).suffix not in (".yaml", ".yml"):
        raise RequestError(f"{path!r} is not a .yaml file; a config file is never executed")
    tree = _parse(read_text(Path(path)), path)
    if not isinstance(tree, (dict, type(None))):
        raise RequestError(f"{path!r} has no KEY: value pairs, so it is no config file")
    found: dict[str, Any] = {}
    for key, value in _leaves(tree or {}, "", _MAX_DEPTH):
        if key in found:
            raise RequestError(f"{path!r} has {key} twice; keep one")
        found[key] = value
        if len(found) > _MAX_LEAVES:
            raise RequestError(f"{path!r} has more than {_MAX_LEAVES} values: it is no config file")
    return found


def _parse(text: str, path: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RequestError(f"{path!r}, line {line}: this is not yaml: {error.problem}") from error
    except (yaml.YAMLError, *_UNFIT) as error:
        first = str(error).partition("\n")[0]
        raise RequestError(f"{path!r} is not yaml: {first or type(error).__name__}") from error


def _leaves(tree: dict[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and depth:
            yield from _leaves(value, f"{name}.", depth - 1)
        else:
            yield name, value
