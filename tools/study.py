#!/usr/bin/env python
"""Run a grid of trainings and table it: tools/study.py STUDY [--jobs N --resume --dry-run --shard i/n --report …]."""

from protuning_mm.apis.study import main

if __name__ == '__main__':
    main()
