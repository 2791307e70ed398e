#!/usr/bin/env python
"""Draw accuracy by class: tools/analysis_tools/plot_long_tail.py NAME=FILE.pkl… --config CONFIG --out FILE."""

from protuning_mm.apis.pictures.plot_long_tail import main

if __name__ == '__main__':
    main()
