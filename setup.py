"""Names the packages; everything else is in pyproject.toml.

The folder `service` is installed as `fairpos_service`, so that no top-level name "service" is taken. setuptools can map
the folder (package-dir) but can't find packages under a name that is not their folder's.
"""

from setuptools import find_namespace_packages, find_packages, setup

# A namespace, because the page's folder `static` has no modules.
found = find_namespace_packages(include=["service", "service.*"])
service = ["fairpos_service" + name.removeprefix("service") for name in found]
setup(packages=find_packages(include=["fairpos", "fairpos.*"]) + service)
