#!/bin/sh
# Install protuning_mm and its server into a new environment, from the root of the repository: sh docker/install.sh FOLDER
set -eu
"${PYTHON:-python3}" -m venv "$1"
python="$1/bin/python"
install="$python -m pip install --disable-pip-version-check -c requirements/constraints-onedl.txt"
$install pip setuptools wheel packaging ninja psutil
$install torch torchvision numpy
# an isolated build would find no torch, and build no operators
MMCV_WITH_OPS=1 CFLAGS=-g0 $install --no-build-isolation onedl-mmcv
$install --no-build-isolation ".[onedl,serve,hub]"
# opencv-python needs the system's libGL; the headless build does not
"$python" -m pip uninstall --yes opencv-python
$install --force-reinstall --no-deps opencv-python-headless
"$python" -c 'import mmcv.ops, mmdet.models, mmseg.models, mmpretrain.models, protuning_mm.serving.app'
