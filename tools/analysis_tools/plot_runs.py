#!/usr/bin/env python
"""Draw training curves of several runs: tools/analysis_tools/plot_runs.py RUN_DIR… --metric NAME… --out FILE."""

from protuning_mm.apis.pictures.plot_runs import main

if __name__ == '__main__':
    main()
