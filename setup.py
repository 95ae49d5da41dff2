"""Names the packages and the long description; everything else is in pyproject.toml.

The folder `service` is installed as `fairpos_service`, so that no top-level name "service" is taken. setuptools can map
the folder (package-dir) but can't find packages under a name that is not their folder's.

An index shows the README away from the repository: there, its relative links become addresses of this version's files.
"""

import re
import tomllib
from pathlib import Path

from setuptools import find_namespace_packages, find_packages, setup

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def absolute_links(text: str) -> str:
    """The README with addresses in place of relative links: pictures as files, pages as the git host shows them."""
    home, version = PROJECT["urls"]["Repository"], PROJECT["version"]

    def address(link: re.Match[str]) -> str:
        kind = "raw" if link[1] == "!" else "blob"
        return f"{link[1]}[{link[2]}]({home}/{kind}/v{version}/{link[3]})"

    return re.sub(r"(!?)\[((?:[^\[\]]|\n)*)\]\((?!https?://|#)([^)\s]+)\)", address, text)


# A namespace, because the page's folder `static` has no modules.
found = find_namespace_packages(include=["service", "service.*"])
service = ["fairpos_service" + name.removeprefix("service") for name in found]
setup(
    packages=find_packages(include=["fairpos", "fairpos.*"]) + service,
    long_description=absolute_links((HERE / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
