"""Train and evaluate MMRL, MMRL++ or zero-shot CLIP on one data set.

    python train.py --root DATA --seed 1 --trainer MMRL \\
        --dataset-config-file configs/datasets/eurosat.yaml \\
        --config-file configs/trainers/MMRL/vit_b16.yaml --output-dir output/eurosat/seed1 \\
        DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base TASK B2N

    python train.py ... --eval-only --model-dir output/eurosat/seed1 \\
        --output-dir output/eurosat/new/seed1 DATASET.SUBSAMPLE_CLASSES new TASK B2N

Interrupted? Run the same command again; it resumes at the last finished epoch. If the folder holds
the same run, finished, nothing is done; if it holds another run, the difference is named.
"""

import argparse
import os
import re
import sys
import time
from contextlib import ExitStack
from typing import Any

from dassl.errors import RequestError, in_one_sentence
from interpreter import require_torch
from options import Parser, add_module_options

if __name__ == "__main__":
    require_torch()

# Options that set a config key; the others only control this program.
_KEY_OF_FLAG = {
    "root": "DATASET.ROOT",
    "output_dir": "OUTPUT_DIR",
    "resume": "RESUME",
    "seed": "SEED",
    "source_domains": "DATASET.SOURCE_DOMAINS",
    "target_domains": "DATASET.TARGET_DOMAINS",
    "transforms": "INPUT.TRANSFORMS",
    "backbone": "MODEL.BACKBONE.NAME",
    "head": "MODEL.HEAD.NAME",
    "train_epoch": "OPTIM.MAX_EPOCH",
}


def build_parser() -> Parser:
    """The parser of all options; an option that was not given is None."""
    parser = Parser(description=__doc__)
    what = parser.add_argument_group("what to run")
    what.add_argument("--trainer", metavar="NAME", help="MMRL, MMRLpp, ZeroshotCLIP, LinearProbe, "
                      "TipAdapter, TipAdapterF, or your own")  # fmt: skip
    add_module_options(what)
    what.add_argument("--dataset-config-file", metavar="YAML", help="configs/datasets/*.yaml")
    what.add_argument("--config-file", metavar="YAML", help="configs/trainers/*/*.yaml")
    what.add_argument(
        "--backbone",
        metavar="NAME|FILE",
        help="CLIP by name (ViT-B/16, open_clip:MODEL/TAG), a weights file, or its folder "
        "(default: the config file's)",
    )
    what.add_argument("--head", metavar="NAME", help="head of Dassl's own networks; CLIP has none")
    where = parser.add_argument_group("where")
    where.add_argument("--root", metavar="DIR", help="folder that holds the data sets' folders")
    where.add_argument("--output-dir", metavar="DIR", help="folder of the run (default: ./output)")
    where.add_argument(
        "--resume", metavar="DIR", help="folder to resume from (default: --output-dir)"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--seed", type=int, metavar="N", help="seed, 0 or more (default: unseeded)")
    how.add_argument(
        "--train-epoch", type=int, metavar="N", help="number of epochs (OPTIM.MAX_EPOCH)"
    )
    how.add_argument(
        "--transforms", nargs="+", metavar="NAME", help="augmentations (INPUT.TRANSFORMS)"
    )
    how.add_argument("--source-domains", nargs="+", metavar="NAME", help="domains to train on")
    how.add_argument("--target-domains", nargs="+", metavar="NAME", help="domains to test on")
    how.add_argument("--no-train", action="store_true", help="build everything, but do not train")
    evaluate = parser.add_argument_group("evaluation of a trained run")
    evaluate.add_argument("--eval-only", action="store_true", help="evaluate without training")
    evaluate.add_argument(
        "--model-dir",
        nargs="+",
        default=[],
        metavar="DIR",
        help="run folder, checkpoint file or hf:USER/REPO to evaluate; several share one "
        "pass over the pictures",
    )
    evaluate.add_argument(
        "--load-epoch", type=int, metavar="N", help="epoch to load (default: best, else last)"
    )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config keys and their values, e.g. OPTIM.LR 0.002",
    )
    return parser


def resolve(args: argparse.Namespace) -> tuple[Any, dict[str, str]]:
    """The config that the options give, and the origin of every value that is not a default."""
    from trainer.config import build_config

    flags = {key: getattr(args, flag) for flag, key in _KEY_OF_FLAG.items()}
    return build_config(
        trainer=args.trainer or "",
        dataset_config_file=args.dataset_config_file or "",
        config_file=args.config_file or "",
        flags={key: value for key, value in flags.items() if value is not None},
        opts=args.opts,
    )


def describe(args: argparse.Namespace, cfg: Any, origins: dict[str, str]) -> None:
    """Print what differs from the defaults; the log has arguments, config and environment whole."""
    from dassl.utils import collect_env_info
    from dassl.utils.logger import log_only
    from trainer.config import differences, flatten

    # What programs of this family look for in a log keeps its headings.
    log_only("***************\n** Arguments **\n***************")
    for key in sorted(vars(args)):
        log_only(f"{key}: {getattr(args, key)}")
    log_only(f"************\n** Config **\n************\n{cfg}")
    values = flatten(cfg)
    for key, origin in origins.items():
        if origin.startswith("the paper"):
            log_only(f"{key} is {values[key]}: {origin}")
    log_only(f"Collecting env info ...\n** System info **\n{collect_env_info()}\n")
    print(f"Config: {len(origins)} values are set ({cfg.OUTPUT_DIR}/config.yaml has them all)")
    print(differences(cfg, origins))


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that would be passed over in silence.

    Raises:
        RequestError: names one.
    """
    given = {"--model-dir": args.model_dir, "--load-epoch": args.load_epoch is not None}
    if unused := [flag for flag, is_given in given.items() if is_given and not args.eval_only]:
        raise RequestError(f"{unused[0]} is for evaluations: add --eval-only, or leave it out")
    if args.load_epoch is not None and not args.model_dir:
        raise RequestError("--load-epoch needs --model-dir with the run to evaluate")


def prepare(args: argparse.Namespace, held: ExitStack | None = None) -> tuple[Any, dict[str, str]]:
    """Resolve the config and build its trainer: (trainer, origins of the values).

    `held`, if given, keeps other commands out of the folder until it is closed.

    Raises:
        RequestError, FileNotFoundError: one sentence that says what is wrong and what to do.
    """
    check_options(args)
    import datasets  # noqa: F401  registers the readers
    import trainer  # noqa: F401  registers the trainers
    from trainer.own_modules import load_modules

    load_modules(args.trainer_module, args.dataset_module)
    if args.eval_only and args.model_dir and not args.trainer:
        from trainer.evaluation.request import stored_trainer

        args.trainer = stored_trainer(args.model_dir[0], args.load_epoch)
    cfg, origins = resolve(args)
    from dassl.alone import LOCK_FILE, alone_in
    from dassl.engine import build_trainer
    from dassl.utils import set_random_seed, setup_logger
    from run_files import RESULTS_FILE
    from trainer.evaluation import request
    from trainer.step import use_deterministic_operations

    # What a finished run's folder holds stays as it is, whether this request is the run's or not.
    has_results = os.path.isfile(os.path.join(cfg.OUTPUT_DIR, RESULTS_FILE))
    if args.eval_only:
        has_results = request.check_folders(args.model_dir, cfg.OUTPUT_DIR)
    if cfg.SEED >= 0:
        print(f"Setting fixed seed: {cfg.SEED}")
        set_random_seed(cfg.SEED)
    if cfg.DETERMINISTIC:
        use_deterministic_operations()
    # A command killed at its very end leaves its lock beside its results.
    has_lock = os.path.exists(os.path.join(cfg.OUTPUT_DIR, LOCK_FILE))
    if held is not None and (has_lock or not has_results):
        held.enter_context(alone_in(cfg.OUTPUT_DIR))
    if not has_results:
        setup_logger(cfg.OUTPUT_DIR)
    describe(args, cfg, origins)
    if args.eval_only and args.model_dir:
        request.adapt_to_checkpoints(cfg, origins, args.model_dir, args.load_epoch)
    built = build_trainer(cfg)
    if args.eval_only:
        request.load_for_evaluation(built, args.model_dir, args.load_epoch)
    return built, origins


def evaluate(trainer: Any, args: argparse.Namespace) -> None:
    """Evaluate what was loaded, unless the folder says it already; results say what that was.

    Raises:
        RequestError: the folder holds other results.
    """
    from run_files import EVALUATED
    from trainer.evaluation import request

    request.identify(trainer, "".join(args.model_dir), args.load_epoch)
    if line := request.already_evaluated(trainer, trainer.cfg.OUTPUT_DIR):
        print(line)
        return
    begin(trainer.cfg)
    trainer.test()
    if args.model_dir and hasattr(trainer, "results"):
        trainer.results[EVALUATED] = args.model_dir[0]


def begin(cfg: Any) -> None:
    """Write the config, and a log where a finished folder had kept it back."""
    from dassl.utils import setup_logger
    from run_files import RESULTS_FILE
    from trainer.evaluation.results import write_resolved_config

    if os.path.isfile(os.path.join(cfg.OUTPUT_DIR, RESULTS_FILE)):
        setup_logger(cfg.OUTPUT_DIR)
    write_resolved_config(cfg)


def train(trainer: Any, args: argparse.Namespace) -> None:
    """Train, unless the folder holds this very run, finished.

    Raises:
        RequestError: the folder holds another run.
    """
    if hasattr(trainer, "answer"):  # other people's trainers go on from whatever is there
        if line := trainer.answer():
            print(line)
            return
    begin(trainer.cfg)
    if not args.no_train:
        trainer.train()


def evaluate_many(trainer: Any, args: argparse.Namespace, origins: dict, started: float) -> None:
    """Evaluate several runs in one pass; OUTPUT_DIR gets a folder for each.

    Raises:
        RequestError: one of these holds other results.
    """
    from trainer.evaluation import request
    from trainer.evaluation.results import collect_results

    asked = request.folders_of(args.model_dir, trainer.cfg.OUTPUT_DIR)
    left = {}
    for model, folder in zip(args.model_dir, asked, strict=True):
        request.identify(trainer, model, args.load_epoch)
        if line := request.already_evaluated(trainer, folder):
            print(line)
        else:
            left[model] = folder
    if not left:
        return
    begin(trainer.cfg)
    for model, results in zip(left, trainer.test_many(list(left), args.load_epoch), strict=True):
        request.identify(trainer, model, args.load_epoch)
        trainer.results = results
        written = collect_results(trainer, origins, started, left[model]).write()
        print(f"Results are in {written}")
    del trainer.results  # they are none of OUTPUT_DIR itself


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the options, telling config keys apart from the paths that follow --model-dir."""
    args = build_parser().parse_args(argv)
    for position, word in enumerate(args.model_dir):
        if re.fullmatch(r"[A-Z][A-Z0-9_]*(\.\w+)*", word) and not os.path.exists(word):
            args.opts = args.model_dir[position:] + args.opts
            args.model_dir = args.model_dir[:position]
            break
    return args


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Run; the exit code: 0 if all went well, 1 if training failed, 2 if the request was wrong."""
    with ExitStack() as held:
        return run(parse(argv), held)


def run(args: argparse.Namespace, held: ExitStack) -> int:
    """As `main`; `held` is closed when everything is written."""
    started = time.time()
    try:
        trainer, origins = prepare(args, held)
        if args.eval_only and len(args.model_dir) > 1:
            evaluate_many(trainer, args, origins, started)
        elif args.eval_only:
            evaluate(trainer, args)
        else:
            train(trainer, args)
    except (FloatingPointError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if hasattr(trainer, "results"):
        from trainer.evaluation.results import collect_results

        found = collect_results(trainer, origins, started, trainer.cfg.OUTPUT_DIR)
        print(f"Results are in {found.write()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
