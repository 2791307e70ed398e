"""``python -m protuning_mm.apis.doctor``: the same command as ``tools/doctor.py``."""

from protuning_mm.apis.doctor import main

if __name__ == '__main__':
    main()
