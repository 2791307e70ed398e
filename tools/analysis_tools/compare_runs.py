#!/usr/bin/env python
"""Train variants of a config over several seeds and table one metric: compare_runs.py CONFIG --metric M --variant …."""

from protuning_mm.apis.compare_runs import main

if __name__ == '__main__':
    main()
