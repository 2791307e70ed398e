#!/usr/bin/env python
"""Count trained and frozen parameters: count_params.py CONFIG… [--json | --markdown], or --grid for every tuning."""

from protuning_mm.apis.count_params import main

if __name__ == '__main__':
    main()
