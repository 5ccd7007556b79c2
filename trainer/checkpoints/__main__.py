"""Describe and export what a run has learned.

    python -m trainer.checkpoints describe output/eurosat/seed1
    python -m trainer.checkpoints export output/eurosat/seed1 eurosat.safetensors --model-card
    python -m trainer.checkpoints export output/eurosat/seed1 eurosat.onnx --half

PATH is a run folder, a checkpoint file, the tree of a published archive, a .safetensors file, or a
repository of the Hugging Face hub, hf:USER/REPO[@REVISION]. A .safetensors file holds what was
learned, and loads like a run; an .onnx file holds the whole classifier of one list of classes, and
runs without PyTorch.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dassl.errors import RequestError, in_one_sentence
from dassl.whole_files import check_writable, write_text, write_whole
from options import Parser
from trainer.checkpoints.find import find_checkpoint, read_checkpoint, run_metadata
from trainer.checkpoints.identity import KEY, Identity, plain_settings, seal
from trainer.checkpoints.model_card import CARD_FILE, check_card_place, model_card
from trainer.checkpoints.sizes import PUBLISHED_METHODS, is_learned, sizes_of
from trainer.class_names import read_classes
from trainer.published_values import METHOD_NAMES

__all__ = ["describe", "export", "export_onnx"]


def export(path: str, out: Path, epoch: int | None = None) -> tuple[int, int]:
    """Write what was learned as .safetensors, with what rebuilds the model; (bytes before, after).

    Raises:
        RequestError: the checkpoint is not MMRL's or MMRL++'s.
        OSError: `out` cannot be written.
    """
    from safetensors.torch import save

    source = find_checkpoint(path, epoch)
    checkpoint = read_checkpoint(source)
    state = checkpoint["state_dict"]
    identity, epoch = Identity.read(checkpoint, str(source)), checkpoint.get("epoch")
    trainer = identity.trainer if identity else sizes_of(state).trainer
    # With an identity nothing but what was learned is stored, under whatever keys a method has.
    keys = state if identity else filter(is_learned, state)
    learned = {key: state[key].float().contiguous() for key in keys}
    metadata: dict[str, Any] = {"trainer": trainer, "epoch": epoch}
    stored = {}
    if identity:
        whole = seal({"state_dict": learned, "epoch": epoch}, identity)
        stored[KEY] = json.dumps(whole[KEY])
    elif known := run_metadata(checkpoint, path):
        config = plain_settings(known["config"])  # no folder of this machine
        metadata |= known | {"config": config, "backbone": config.get("MODEL.BACKBONE.NAME", "")}
    # As bytes: the library's own writer gives the disk's refusals no number, and no file's name.
    content = save(learned, metadata={"mmrl": json.dumps(metadata), **stored})
    write_whole(out, lambda file: file.write(content))
    return source.stat().st_size, out.stat().st_size


def describe(path: str, epoch: int | None = None) -> str:
    """Method, sizes, epoch and learned tensors, a line each; the trainer need not be registered.

    Raises:
        RequestError: the checkpoint is damaged, or neither says whose it is nor has MMRL's tensors.
    """
    source = find_checkpoint(path, epoch)
    checkpoint = read_checkpoint(source)
    state, known = checkpoint["state_dict"], run_metadata(checkpoint, path)
    trainer = known.get("trainer") or sizes_of(state).trainer
    lines = {
        "file": source,
        "method": METHOD_NAMES.get(trainer, trainer),
        "epoch": checkpoint.get("epoch"),
        **(_sizes(state) if trainer in PUBLISHED_METHODS else _tensors(checkpoint, path)),
        "in the file": f"{len(state)} tensors, {source.stat().st_size:,} bytes",
        "classes": ", ".join(known.get("classnames", [])) or "not recorded",
    }
    return "\n".join(f"{name + ':':<20} {value}" for name, value in lines.items())


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the tensors of a published method say."""
    s = sizes_of(state)
    return {
        "K, tokens": s.num_tokens,
        "d_r, space width": s.rep_dim,
        "layers with tokens": s.num_layers,
        "rank per layer": s.layer_rank or "-",
        "rank of proj_rep": s.projection_rank or "-",
        "widths": f"{s.vision_width} (image), {s.text_width} (text)",
        "learned": f"{s.num_tensors} tensors, {s.num_learned:,} numbers",
    }


def _tensors(checkpoint: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Of another method: its file, if it is of one's own, and every tensor with its shape."""
    state, identity = checkpoint["state_dict"], Identity.read(checkpoint, path)
    files = identity.own_modules if identity else {}
    lines = {f"file {name}": f"sha256 {sha}" for name, sha in files.items()}
    lines |= {key: " x ".join(map(str, tensor.shape)) or "1" for key, tensor in state.items()}
    total = sum(tensor.numel() for tensor in state.values())
    return lines | {"learned": f"{len(state)} tensors, {total:,} numbers"}


def export_onnx(args: argparse.Namespace) -> int:
    """Write the classifier that the options ask for; how many bytes it has.

    Raises:
        RequestError: as `trainer.load`, or the package onnx is missing.
        OSError: the file cannot be written.
    """
    from trainer.checkpoints.onnx_file import to_onnx
    from trainer.predictor import load

    source = find_checkpoint(args.path, args.load_epoch)
    classes = read_classes(args.classes)
    model = load(str(source), classes, args.backbone, "cpu", args.template, args.dataset)
    checkpoint = read_checkpoint(source)
    identity = Identity.read(checkpoint, str(source))
    about = (
        {"trainer": identity.trainer, "backbone_sha256": identity.backbone_sha256}
        if identity
        else {"trainer": sizes_of(checkpoint["state_dict"]).trainer}
    )
    content = to_onnx(model, about | {"epoch": checkpoint.get("epoch")}, args.half)
    write_whole(args.out, lambda file: file.write(content))
    return len(content)


def build_parser() -> Parser:
    """The parser of all options."""
    parser = Parser(prog="python -m trainer.checkpoints", description=__doc__)
    parser.add_argument("command", choices=("describe", "export"))
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("out", nargs="?", type=Path, metavar="OUT.safetensors|OUT.onnx")
    parser.add_argument("--load-epoch", type=int, metavar="N", help="default: best, else last")
    parser.add_argument(
        "--model-card", action="store_true", help="also write README.md for the hub beside OUT"
    )
    onnx = parser.add_argument_group("for OUT.onnx")
    onnx.add_argument(
        "--half", action="store_true", help="store matrices as float16: half the size"
    )
    onnx.add_argument("--classes", metavar="A,B|FILE", help="class names (default: the run's)")
    onnx.add_argument("--template", metavar="TEXT", help="prompt (default: the run's)")
    onnx.add_argument("--backbone", metavar="NAME|FILE", help="CLIP (default: the run's)")
    onnx.add_argument("--dataset", metavar="NAME", help="data set of a published checkpoint")
    return parser


def check_options(args: argparse.Namespace) -> None:
    """Refuse outputs that cannot be written, and options that would be passed over in silence.

    Raises:
        RequestError, OSError: names one.
    """
    is_onnx = args.out is not None and args.out.suffix == ".onnx"
    flags = ("half", "classes", "template", "backbone", "dataset")
    if unused := [flag for flag in flags if getattr(args, flag) and not is_onnx]:
        raise RequestError(f"--{unused[0]} is for exports to OUT.onnx; leave it out")
    if args.command == "describe" and (args.out or args.model_card):
        raise RequestError("describe writes no file; leave OUT and --model-card out")
    if args.out is not None:
        check_writable(args.out)
    if args.model_card:
        check_card_place(args.out)


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Describe or export a run; the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command == "export" and args.out is None:
        parser.error("export needs OUT.safetensors or OUT.onnx")
    check_options(args)
    if args.command == "describe":
        print(describe(args.path, args.load_epoch))
        return 0
    if args.out.suffix == ".onnx":
        print(f"Wrote {args.out}: {export_onnx(args):,} bytes")
    else:
        before, after = export(args.path, args.out, args.load_epoch)
        print(f"Wrote {args.out}: {after:,} bytes, from {before:,}")
    if args.model_card:
        card = args.out.parent / CARD_FILE
        write_text(card, model_card(args.path, args.out.name, args.load_epoch))
        print(f"Wrote {card}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
