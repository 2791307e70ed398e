from pathlib import Path

from setuptools import setup
from setuptools.command.egg_info import egg_info


class PackageFirst(egg_info):
    """Name protuning_mm first in top_level.txt: mmengine and mim take the first line for the package's folder."""

    def run(self) -> None:
        super().run()
        names = Path(self.egg_info) / 'top_level.txt'
        found = names.read_text().split()
        names.write_text('\n'.join(sorted(found, key=lambda name: name != 'protuning_mm')) + '\n')


setup(cmdclass={'egg_info': PackageFirst})
