import os

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.utils import listdir_nohidden, mkdir_if_missing, read_json, write_json


@DATASET_REGISTRY.register()
class Shapes(DatasetBase):
    dataset_dir = "shapes"

    def __init__(self, cfg):
        root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = os.path.join(root, self.dataset_dir)
        self.image_dir = os.path.join(self.dataset_dir, "images")
        self.split_path = os.path.join(self.dataset_dir, "split.json")
        mkdir_if_missing(os.path.join(self.dataset_dir, "split_fewshot"))
        if not os.path.exists(self.split_path):
            write_json(self.list_images(), self.split_path)
        items = [Datum(impath=p, label=y, classname=c) for p, y, c in read_json(self.split_path)]
        train = self.generate_fewshot_dataset(items, num_shots=cfg.DATASET.NUM_SHOTS)
        super().__init__(train_x=train, val=items[::2], test=items)

    def list_images(self):
        found = []
        for label, name in enumerate(listdir_nohidden(self.image_dir, sort=True)):
            folder = os.path.join(self.image_dir, name)
            found += [(os.path.join(folder, f), label, name) for f in listdir_nohidden(folder)]
        return found
