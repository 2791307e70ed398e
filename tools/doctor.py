#!/usr/bin/env python
"""Examine a config before it is trained: tools/doctor.py CONFIG [--data]."""

from protuning_mm.apis.doctor import main

if __name__ == '__main__':
    main()
