#!/usr/bin/env python
"""Corrupt CIFAR's clean test set into files like CIFAR-10-C's: make_cifar_c.py data/cifar10 OUT [--jobs 8]."""

from protuning_mm.apis.make_cifar_c import main

if __name__ == '__main__':
    main()
