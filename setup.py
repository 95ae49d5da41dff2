"""Names the packages; everything else is in pyproject.toml.

The folder `service` is installed as `fairpos_service`, so that no top-level name "service" is taken. setuptools can map
the folder (package-dir) but can't find packages under a name that is not their folder's.
"""

from setuptools import find_packages, setup

service = ["fairpos_service" + name.removeprefix("service") for name in find_packages(include=["service", "service.*"])]
setup(packages=find_packages(include=["fairpos", "fairpos.*"]) + service)
