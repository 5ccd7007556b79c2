"""Compare methods on pictures of your own, and keep the best model.

    python fit.py PICTURES --out DIR
    python fit.py PICTURES --out DIR --method linear-probe,mmrl --epochs 5

PICTURES is a folder with a folder per class, or with train/ and test/ (and val/) that hold these,
or a CSV of path,label[,split] beside the pictures. Test and validation parts that are not there are
cut by --seed. All methods see the same pictures; what they choose, and the recommendation, rest on
validation pictures alone. DIR gets model.safetensors, results.csv, page.html, split.csv and the
runs. Interrupted? Run the same command again: it goes on.
"""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dassl.errors import RequestError, in_one_sentence
from interpreter import require_torch
from options import Parser, whole_number

if __name__ == "__main__":
    require_torch()


def build_parser() -> Parser:
    """The parser of all options."""
    parser = Parser(description=__doc__)
    parser.add_argument("pictures", type=Path, metavar="PICTURES", help="folder or CSV")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    what = parser.add_argument_group("what to compare")
    what.add_argument(
        "--method",
        default="",
        metavar="A,B",
        help="of zero-shot, linear-probe, tip-adapter, tip-adapter-f, mmrl, mmrl++ (default: all "
        "but tip-adapter-f)",
    )
    what.add_argument(
        "--backbone", default="ViT-B/16", metavar="NAME|FILE", help="CLIP (default: ViT-B/16)"
    )
    what.add_argument("--template", default="", metavar="TEXT",
                      help='prompt (default: "a photo of a {}.")')  # fmt: skip
    how = parser.add_argument_group("how")
    how.add_argument("--shots", type=whole_number(1), default=-1, metavar="N",
                     help="training pictures of each class (default: all)")  # fmt: skip
    how.add_argument("--epochs", type=whole_number(1, 10000), default=0, metavar="N",
                     help="of MMRL, MMRL++ (default: 10) and Tip-Adapter-F (20)")  # fmt: skip
    how.add_argument("--seed", type=whole_number(), default=1, metavar="N", help="default: 1")
    how.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    return parser


def make_plan(args: argparse.Namespace) -> tuple[Any, Any]:
    """(the plan, its CLIP), from the options.

    Raises:
        RequestError, FileNotFoundError: one sentence that says what is wrong and what to do.
    """
    import torch

    import clip
    from fitting.pictures import read_pictures
    from fitting.plan import Plan, chosen_methods
    from trainer.published_values import check_template

    methods = chosen_methods(args.method)
    if args.template:
        check_template(args.template)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise RequestError("--device cuda: there is no GPU here; leave it out")
    pictures = read_pictures(args.pictures.expanduser(), args.seed)
    model = clip.load(args.backbone, "auto")
    plan = Plan(
        pictures=pictures,
        out=args.out.expanduser(),
        backbone=args.backbone,
        resolution=model.visual.resolution,
        num_layers=min(model.sizes.vision_layers, model.sizes.text_layers),
        methods=methods,
        shots=args.shots,
        epochs=args.epochs,
        template=args.template,
        seed=args.seed,
        uses_cuda=torch.cuda.is_available() and args.device != "cpu",
    )
    return plan, model


def run_once(words: list[str]) -> int:
    """train.py with these arguments, in this process, which keeps features; its exit code."""
    import train

    with ExitStack() as held:
        return train.run(train.parse(words), held)


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Read, plan, run, and say which method to take; the exit code."""
    args = build_parser().parse_args(argv)
    import datasets  # noqa: F401  registers the readers
    from fitting.comparison import announce, conclude, run_all

    plan, model = make_plan(args)
    announce(plan, model)
    try:
        outcomes = run_all(plan, run_once)
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on.", file=sys.stderr)
        return 130
    conclude(plan, outcomes)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
