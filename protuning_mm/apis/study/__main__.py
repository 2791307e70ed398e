"""``python -m protuning_mm.apis.study``: the same command as ``tools/study.py``."""

from protuning_mm.apis.study import main

if __name__ == '__main__':
    main()
