"""The parts of compare_llamacpp.py."""
