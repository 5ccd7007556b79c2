"""The parts of `make gpu-check`, each a question to one GPU."""
