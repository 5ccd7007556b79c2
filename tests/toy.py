"""A data set of 12 pictures and trainers in the style of CoOp and MMRL, on a linear model."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint


@DATASET_REGISTRY.register()
class Toy(DatasetBase):
    def __init__(self, cfg):
        rng = np.random.default_rng(0)
        items = []
        for i in range(12):
            path = f"{cfg.DATASET.ROOT}/{i}.png"
            pixels = rng.normal(80 * (i % 3) + 40, 30, (8, 8, 3)).clip(0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
            items.append(Datum(path, i % 3, 0, f"class {i % 3}"))
        super().__init__(train_x=items, val=items[:6], test=items[6:])


class Learner(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(192, 3) * 0.01)
        self.register_buffer("token_prefix", torch.ones(2))

    def forward(self, images):
        return images.flatten(1) @ self.weight


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.prompt_learner = Learner()
        self.frozen = nn.Linear(3, 3)
        self.frozen.requires_grad_(False)

    def forward(self, images):
        return self.prompt_learner(images) + 0 * self.frozen(torch.zeros(1, 3))


class Stepping(TrainerX):
    """The step that both styles share."""

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}


@TRAINER_REGISTRY.register()
class CoOpStyle(Stepping):
    """Registers the learner only; loads without its fixed tokens, not strictly."""

    def build_model(self):
        self.model = Model().to(self.device)
        learner = self.model.prompt_learner
        self.optim = build_optimizer(learner, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("prompt_learner", learner, self.optim, self.sched)

    def load_model(self, directory, epoch=None):
        for name in self.get_model_names():
            file = f"model.pth.tar-{epoch}" if epoch else "model-best.pth.tar"
            state = load_checkpoint(f"{directory}/{name}/{file}")["state_dict"]
            state.pop("token_prefix", None)
            self._models[name].load_state_dict(state, strict=False)


@TRAINER_REGISTRY.register()
class WholeStyle(Stepping):
    """Registers the whole model and overrides `test`."""

    def build_model(self):
        self.model = Model().to(self.device)
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("Whole", self.model, self.optim, self.sched)

    @torch.no_grad()
    def test(self, split=None):
        self.set_model_mode("eval")
        self.evaluator.reset()
        for batch in self.test_loader:
            image, label = self.parse_batch_test(batch)
            self.evaluator.process(self.model_inference(image), label)
        return next(iter(self.evaluator.evaluate().values()))


@TRAINER_REGISTRY.register()
class NothingRegistered(TrainerX):
    def build_model(self):
        self.model = Model()


def toy_cfg(root, out, trainer="CoOpStyle", **values):
    root.mkdir(exist_ok=True)
    cfg = get_cfg_default()
    cfg.DATASET.ROOT, cfg.DATASET.NAME = str(root), "Toy"
    cfg.OUTPUT_DIR, cfg.TRAINER.NAME = str(out), trainer
    cfg.INPUT.SIZE = (8, 8)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 4
    cfg.OPTIM.NAME, cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH = "sgd", 0.01, 3
    cfg.OPTIM.LR_SCHEDULER, cfg.OPTIM.WARMUP_EPOCH = "cosine", 1
    cfg.OPTIM.WARMUP_TYPE = "constant"
    cfg.TRAIN.PRINT_FREQ = 2
    cfg.merge_from_list([part for pair in values.items() for part in pair])
    return cfg
