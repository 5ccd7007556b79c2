"""Download the released checkpoints and logs of MMRL and MMRL++ from the authors' Drive folder.

    python scripts/download_models.py models
    python train.py --eval-only --model-dir models/... (a run folder in it)

An interrupted download resumes. The runs that were fetched are listed at the end.
"""

import argparse
import sys
from pathlib import Path

from interpreter import require_torch

if __name__ == "__main__":
    require_torch()

from dassl.errors import in_one_sentence
from trainer.checkpoints.find import MODEL_NAME

FOLDER_ID = "1z_iKB8bNCzpZHI_jf_cWzrAn0J8d_5-Y"


def list_runs(folder: Path) -> list[Path]:
    """Run folders and archives below `folder`."""
    runs = {path.parent for path in folder.rglob(MODEL_NAME)}
    archives = {path for path in folder.rglob("*") if path.suffix in (".zip", ".gz", ".tar")}
    return sorted(runs | archives)


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Download the folder and list its runs; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder to write")
    parser.add_argument("--id", default=FOLDER_ID, help="Drive folder (default: the authors')")
    args = parser.parse_args(argv)
    import gdown

    args.folder.mkdir(parents=True, exist_ok=True)
    try:
        gdown.download_folder(id=args.id, output=str(args.folder), resume=True)
    except Exception as error:  # gdown and requests raise many kinds; the remedy is one
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        print(
            f"error: cannot download the Drive folder {args.id} ({type(error).__name__}: {reason})."
            " Try again: the download resumes. Or fetch "
            f"https://drive.google.com/drive/folders/{args.id} by hand into {args.folder}.",
            file=sys.stderr,
        )
        return 1
    for path in list_runs(args.folder):
        print(path)
    print("Describe one with: python -m trainer.checkpoints describe PATH")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
