#!/usr/bin/env python
"""Several tasks, one picture: tools/multitask.py --task NAME=CONFIG,CHECKPOINT … --image IMAGES --out DIR."""

from protuning_mm.apis.multitask.command import main

if __name__ == '__main__':
    main()
