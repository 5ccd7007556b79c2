"""Command-line tools around train.py."""
