"""A trainer that knows what its folder holds: finished, stopped or another run's.

Checkpoints carry the identity of their run; what is found is compared with what is asked for.
"""

import os
from typing import Any

from clip.model import CLIP
from dassl.engine import TrainerX
from dassl.errors import RequestError
from trainer.backbone import check_backbone, load_frozen_clip
from trainer.checkpoints.find import MODEL_NAME
from trainer.checkpoints.identity import KEY, Identity, identity_of, seal
from trainer.checkpoints.keys import learned_state
from trainer.checkpoints.pictures import pictures_of
from trainer.checkpoints.resume import (
    ResumeFile,
    TornResumeFile,
    check_best,
    finished,
    newest_checkpoint,
    restore,
    take_best,
)
from trainer.evaluation.evidence import missing_evidence
from trainer.method.model import MMRLModel

__all__ = ["FolderTrainer"]


class FolderTrainer(TrainerX):
    """Answers for its folder, resumes in it, and leaves what a killed run is resumed from."""

    model: MMRLModel
    identity: Identity  # of the run that is asked for
    scaler: Any  # of the loss; None where it is not scaled
    _stored: tuple[str, dict[str, Any]] | None = None  # what `answer` has found to go on from

    @property
    def settings(self) -> Any:
        """This trainer's node of the config."""
        return self.cfg.TRAINER[self.cfg.TRAINER.NAME]

    def check_cfg(self, cfg: Any) -> None:
        """Refuse a backbone that will not load, before the data set is read."""
        self._clip = check_backbone(cfg)

    def load_clip(self) -> CLIP:
        """The frozen CLIP on the device; with it, the identity of the run is known."""
        frozen, self._clip = load_frozen_clip(self.cfg, self.device, loaded=self._clip), None
        self.identity = identity_of(self.cfg, self.dm.dataset, frozen)
        return frozen

    def checkpoint_of(self, name: str, epoch: int, val_result: float | None = None) -> dict:
        """As Dassl's, with what was learned in place of the whole CLIP."""
        state = super().checkpoint_of(name, epoch, val_result)
        # CLIP is not stored: its fingerprint in the identity says which one it was
        return state | {"state_dict": learned_state(self.model)}

    def finish_checkpoint(self, state: dict) -> dict:
        """Add the run's identity and the digest of it all."""
        return seal(state, self.identity)

    def answer(self) -> str | None:
        """What the folder already says of the run that is asked for; None: it is to be trained.

        Nothing is written.

        Raises:
            RequestError: the folder holds another run, or one whose settings are not known; or
                there is nothing in that of RESUME.
        """
        self._look_at_pictures()
        if results := finished(self.output_dir, self.identity):
            accuracy = results.need("accuracy")
            line = f"already finished: accuracy {accuracy:.2f}%, see {results.path}"
            if absent := missing_evidence(self.cfg, self.output_dir):
                line += f". There is no {', '.join(absent)}: evaluate the run with --eval-only"
            return line
        own = self._newest_state(self.output_dir)
        if own and self.cfg.TEST.NO_TEST and own[1]["epoch"] == self.max_epoch:
            return f"already finished: {own[0]} is of the last epoch, and TEST.NO_TEST is set"
        # A run that was stopped here is further on than the one that it had gone on from.
        self._stored = own or self._newest_state(self.cfg.RESUME or self.output_dir)
        if self.cfg.RESUME and self._stored is None:
            raise RequestError(
                f"There is nothing to resume from in {self.cfg.RESUME!r}; correct --resume, or "
                "leave it out to start afresh"
            )
        return None

    def _look_at_pictures(self) -> None:
        if not self.identity.pictures:
            pictures = pictures_of(self.cfg, self.dm.dataset, is_trained=True)
            self.identity = self.identity._replace(pictures=pictures)

    def resume_model_if_exist(self, directory: str) -> int:
        """Resume from the rolling file, else the newest checkpoint; returns the epochs done.

        Raises:
            RequestError: they are of another run, or do not fit.
        """
        self._look_at_pictures()
        found, self._stored = self._stored or self._newest_state(directory), None
        if found is None:
            check_best(self.output_dir, self.identity.untested(), is_needed=False)
            print("No checkpoint found, train from scratch")
            return 0
        path, state = found
        print(f"Found checkpoint at {directory} (will resume training)")
        print(f'Loading checkpoint from "{path}"')
        self._resume_best(path, state)
        restore(self.model, self.optim, self.sched, self.scaler, state, path)
        print(f"Previous epoch: {state['epoch']}")
        return state["epoch"]

    def _resume_best(self, path: str, state: dict[str, Any]) -> None:
        """Have the best model so far at hand now, not when it is to be evaluated."""
        take_best(os.path.dirname(path), self.output_dir)
        if "best_result" in state:
            self.best_result = state["best_result"]
        else:
            self.restore_best_result(self.output_dir)
        keeps_best = self.cfg.TEST.FINAL_MODEL == "best_val" and not self.cfg.TEST.NO_TEST
        check_best(self.output_dir, self.identity.untested(), keeps_best and KEY in state)

    def _newest_state(self, directory: str) -> tuple[str, dict[str, Any]] | None:
        """(path, content) of the resume file if it is whole, else of the newest checkpoint."""
        file = ResumeFile(directory)
        if file.exists():
            try:
                return file.path, file.load(self.identity.untested())
            except TornResumeFile as error:
                print(f"{error}\nGoing on from the newest checkpoint beside it, if there is one")
        return newest_checkpoint(directory, self.identity.untested())

    def after_epoch(self) -> None:
        """Save as configured, then the rolling resume file."""
        super().after_epoch()
        if self.epoch + 1 < self.max_epoch:
            state = self.checkpoint_of(MODEL_NAME, self.epoch) | {"best_result": self.best_result}
            ResumeFile(self.output_dir).save(state, self.identity)

    def after_train(self) -> None:
        """Evaluate, then remove the resume file."""
        super().after_train()
        ResumeFile(self.output_dir).remove()
