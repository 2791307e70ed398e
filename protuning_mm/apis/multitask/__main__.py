"""``python -m protuning_mm.apis.multitask``: the same command as ``tools/multitask.py``."""

from protuning_mm.apis.multitask.command import main

if __name__ == '__main__':
    main()
