"""Data set + transforms -> loaders of batches: dicts with `img` (B, 3, H, W), `label` (B,), ..."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms as T

from dassl.data.cache import PixelCache
from dassl.data.datasets import build_dataset
from dassl.data.loader import StreamLoader, num_processes
from dassl.data.samplers import build_sampler
from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from dassl.errors import RequestError
from dassl.utils import read_image

__all__ = ["DataManager", "DatasetWrapper", "TorchDataset", "build_data_loader"]


def build_data_loader(
    cfg: Any,
    sampler_type: str = "SequentialSampler",
    data_source: list | None = None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm: Any = None,
    is_train: bool = True,
    dataset_wrapper: Callable | None = None,
) -> DataLoader:
    """A loader over `data_source` in the sampler's order.

    In training an incomplete last batch is dropped if there is a complete one. NUM_WORKERS says
    which random numbers an item meets; how many processes work is the machine's affair.

    Raises:
        RequestError: the loader would be empty.
    """
    items = [] if data_source is None else data_source
    sampler = build_sampler(
        sampler_type,
        cfg=cfg,
        data_source=items,
        batch_size=batch_size,
        n_domain=n_domain,
        n_ins=n_ins,
    )
    wrapped = (dataset_wrapper or DatasetWrapper)(cfg, items, transform=tfm, is_train=is_train)
    num_streams = cfg.DATALOADER.NUM_WORKERS
    loader = StreamLoader(
        wrapped,
        batch_size=batch_size,
        sampler=sampler,
        num_streams=num_streams,
        processes=num_processes(num_streams, -(-len(sampler) // batch_size)),
        drop_last=is_train and len(items) >= batch_size,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
    )
    if len(loader) == 0:
        raise RequestError(
            f"The {'training' if is_train else 'test'} loader is empty: {len(items)} items, "
            f"batch size {batch_size}, {sampler_type}"
        )
    return loader


class DataManager:
    """The data set of a config with its loaders: `train_loader_x`, `val_loader`, `test_loader`."""

    def __init__(
        self,
        cfg: Any,
        custom_tfm_train: Any = None,
        custom_tfm_test: Any = None,
        dataset_wrapper: Callable | None = None,
    ) -> None:
        dataset = build_dataset(cfg)
        tfm_train = self._transform(cfg, True, custom_tfm_train)
        tfm_test = self._transform(cfg, False, custom_tfm_test)
        common = {"cfg": cfg, "dataset_wrapper": dataset_wrapper}
        train_x, train_u = cfg.DATALOADER.TRAIN_X, cfg.DATALOADER.TRAIN_U
        self.train_loader_x = _train_loader(dataset.train_x, train_x, tfm_train, common)
        self.train_loader_u = None
        if dataset.train_u:
            same = train_x if train_u.SAME_AS_X else train_u
            self.train_loader_u = _train_loader(dataset.train_u, same, tfm_train, common)
        self.val_loader = None
        if dataset.val:
            self.val_loader = _test_loader(dataset.val, tfm_test, common)
        self.test_loader = _test_loader(dataset.test, tfm_test, common)
        self._num_classes = dataset.num_classes
        self._num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        self._lab2cname = dataset.lab2cname
        self.dataset = dataset
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    @staticmethod
    def _transform(cfg: Any, is_train: bool, custom: Any) -> Any:
        if custom is None:
            return build_transform(cfg, is_train=is_train)
        print(f"* Using custom transform for {'training' if is_train else 'testing'}")
        return custom

    @property
    def num_classes(self) -> int:
        """The highest training label plus one."""
        return self._num_classes

    @property
    def num_source_domains(self) -> int:
        """Length of DATASET.SOURCE_DOMAINS."""
        return self._num_source_domains

    @property
    def lab2cname(self) -> dict[int, str]:
        """Label -> class name."""
        return self._lab2cname

    def show_dataset_summary(self, cfg: Any) -> None:
        """Print the table of names and counts."""
        rows = [("Dataset", cfg.DATASET.NAME)]
        if cfg.DATASET.SOURCE_DOMAINS:
            rows.append(("Source", str(cfg.DATASET.SOURCE_DOMAINS)))
        if cfg.DATASET.TARGET_DOMAINS:
            rows.append(("Target", str(cfg.DATASET.TARGET_DOMAINS)))
        rows.append(("# classes", f"{self.num_classes:,}"))
        for name in ("train_x", "train_u", "val", "test"):
            if items := getattr(self.dataset, name):
                rows.append((f"# {name}", f"{len(items):,}"))
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        rule = "  ".join("-" * width for width in widths)
        lines = [f"{name:<{widths[0]}}  {value}" for name, value in rows]
        print("\n".join([rule, *lines, rule]))


def _train_loader(items: list, c: Any, tfm: Any, common: dict) -> DataLoader:
    return build_data_loader(
        sampler_type=c.SAMPLER,
        data_source=items,
        batch_size=c.BATCH_SIZE,
        n_domain=c.N_DOMAIN,
        n_ins=c.N_INS,
        tfm=tfm,
        is_train=True,
        **common,
    )


def _test_loader(items: list, tfm: Any, common: dict) -> DataLoader:
    c = common["cfg"].DATALOADER.TEST
    return build_data_loader(
        sampler_type=c.SAMPLER,
        data_source=items,
        batch_size=c.BATCH_SIZE,
        tfm=tfm,
        is_train=False,
        **common,
    )


class DatasetWrapper(TorchDataset):
    """Item i -> `label`, `domain`, `impath`, `index`, `img` (3, H, W); more by config.

    K_TRANSFORMS > 1 makes `img` a list in training; a sequence of transforms gives `img`, `img2`,
    ...; RETURN_IMG0 adds `img0`, resized only.
    """

    def __init__(
        self, cfg: Any, data_source: list, transform: Any = None, is_train: bool = False
    ) -> None:
        self.cfg, self.data_source, self.transform = cfg, data_source, transform
        self.is_train = is_train
        limit_mb = cfg.DATALOADER.get("CACHE_MB", 0) if is_train else 0
        self.cache = None
        if limit_mb:
            self.cache = PixelCache.if_it_fits([item.impath for item in data_source], limit_mb)
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        if self.k_tfm > 1 and transform is None:
            raise RequestError(
                "DATALOADER.K_TRANSFORMS above 1 needs a transform; NO_TRANSFORM is set"
            )
        interpolation = INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]
        to_tensor = [T.Resize(cfg.INPUT.SIZE, interpolation), T.ToTensor()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            to_tensor.append(T.Normalize(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD))
        self.to_tensor = T.Compose(to_tensor)

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        item = self.data_source[idx]
        output = {
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": idx,
        }
        image = read_image(item.impath) if self.cache is None else self.cache.read(idx)
        if self.transform is None:
            output["img"] = image
        elif isinstance(self.transform, (list, tuple)):
            for number, tfm in enumerate(self.transform, start=1):
                output[f"img{number}" if number > 1 else "img"] = self._transform_image(tfm, image)
        else:
            output["img"] = self._transform_image(self.transform, image)
        if self.return_img0:
            output["img0"] = self.to_tensor(image)
        return output

    def _transform_image(self, tfm: Any, img0: Any) -> Any:
        """Hook: what `img` holds for the picture `img0`, one view, or a list of K_TRANSFORMS."""
        views = [tfm(img0) for _ in range(self.k_tfm)]
        return views[0] if len(views) == 1 else views
