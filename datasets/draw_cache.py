"""Few-shot caches that published code left beside the pictures -> the items that they chose.

`split_fewshot/shot_N-seed_S.pkl` holds items with the absolute paths of the machine that made it.
The pictures are looked up below the data set's own folder.
"""

import os
from pathlib import Path, PurePosixPath

from dassl.data.datasets import Datum
from dassl.errors import RequestError
from datasets.item_pickle import read_datums

__all__ = ["cache_file", "cached_draw", "compare_draws", "consult_cache"]


def cache_file(folder: Path, num_shots: int, seed: int) -> Path:
    """Where published code keeps a draw of the data set in `folder`."""
    return folder / "split_fewshot" / f"shot_{num_shots}-seed_{seed}.pkl"


def cached_draw(path: Path, folder: Path, lists: dict[str, list[Datum]]) -> dict[str, list[Datum]]:
    """The items of `lists` (part -> all items) that the cache at `path` chose, in its order.

    Raises:
        FileNotFoundError: there is no such cache, or a picture of it is missing.
        RequestError: it cannot be read, or does not fit the data set in `folder`.
    """
    cached, drawn = read_datums(path), {}
    for part, items in lists.items():
        if part not in cached:
            raise RequestError(
                f"{str(path)!r} has no {part} pictures: it belongs to another data set"
            )
        wanted = [(_reroot(item.impath, folder, path), item.label) for item in cached[part]]
        drawn[part] = _find(wanted, items, part, path)
    return drawn


def _reroot(impath: str, folder: Path, source: Path) -> str:
    """The path below `folder` of a picture that was below a folder of that name elsewhere."""
    parts = PurePosixPath(impath.replace("\\", "/")).parts
    starts = [i for i, part in enumerate(parts) if part == folder.name]
    if not starts:
        raise RequestError(f"{str(source)!r} lists {impath!r}, which is in no {folder.name}/")
    if ".." in parts[starts[0] :]:
        raise RequestError(f"{str(source)!r} lists {impath!r}, which leaves {folder.name}/")
    paths = [os.path.join(folder, *parts[start + 1 :]) for start in starts]
    # A root may itself lie in a folder of that name: the longest path that is there counts.
    there = (path for path in paths if len(paths) > 1 and os.path.isfile(path))
    return next(there, paths[-1])


def _find(
    wanted: list[tuple[str, int]], items: list[Datum], part: str, source: Path
) -> list[Datum]:
    """Our own items of those paths; a scan, since a dict of a million items is large."""
    paths = {path for path, _ in wanted}
    known = {item.impath: item for item in items if item.impath in paths}
    for path, label in wanted:
        if path not in known and not os.path.isfile(path):
            raise FileNotFoundError(f"{str(source)!r} lists {path!r}, which is missing")
        if path not in known:
            raise RequestError(
                f"{str(source)!r} lists {path!r}, which is not a {part} picture of this data set: "
                "it was made from another split file"
            )
        if known[path].label != label:
            raise RequestError(
                f"{str(source)!r} gives {path!r} the label {label}, here it has "
                f"{known[path].label}: it was made from other class folders or another split file"
            )
    return [known[path] for path, _ in wanted]


def compare_draws(path: Path, ours: dict[str, list[Datum]], cached: dict[str, list[Datum]]) -> str:
    """One sentence on the cache at `path`: equal, or how many pictures of each part differ."""
    differences = []
    for part in cached:
        own = [item.impath for item in ours[part]]
        other = [item.impath for item in cached[part]]
        number = max(len(set(own) - set(other)), len(set(other) - set(own)))
        if number:
            differences.append(f"{number:,} of {max(len(own), len(other)):,} pictures ({part})")
        elif own != other:
            differences.append(f"the order of the same pictures ({part})")
    name = f"{path.parent.name}/{path.name}"
    if differences:
        return f"The cached draw in {name} differs from ours in {' and '.join(differences)}."
    return f"The cached draw in {name} equals ours."


def consult_cache(
    path: Path,
    folder: Path,
    lists: dict[str, list[Datum]],
    ours: dict[str, list[Datum]],
    is_used: bool,
) -> dict[str, list[Datum]]:
    """The draw to use, of `ours` and the cache at `path`; prints how they differ.

    Raises:
        FileNotFoundError, RequestError: as `cached_draw`, if the cache is to be used.
    """
    try:
        cached = cached_draw(path, folder, lists)
    except (FileNotFoundError, RequestError) as error:
        if is_used:
            raise type(error)(f"DATASET.FEWSHOT_CACHE is True. {error}") from error
        print(f"The cached draw is not compared: {error}")
        return ours
    print(compare_draws(path, ours, cached))
    print(f"Used: {'the cached draw' if is_used else 'our draw'} (DATASET.FEWSHOT_CACHE {is_used})")
    return cached if is_used else ours
