"""Figures of runs: prompts, training curves, accuracy by class. Computing numbers and drawing are separate modules."""
