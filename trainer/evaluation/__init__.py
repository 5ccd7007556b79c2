"""Evaluation: scores -> figures, and the evidence beside them."""
