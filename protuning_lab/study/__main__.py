"""``python -m protuning_lab.study``: the same command as ``tools/study.py``."""

from protuning_lab.study import main

if __name__ == '__main__':
    main()
