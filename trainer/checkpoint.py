"""The former name of `python -m trainer.checkpoints`, which does the work."""

from trainer.checkpoints.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main())
