"""Checkpoints: what a run has stored, under whose keys, and how it is found, read and resumed."""
