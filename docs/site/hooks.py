"""mkdocs' hooks: the pages of docs/, as they are read on a git host, as a site.

- The navigation is the contents page, docs/README.md: its headings are sections, its links pages.
- CONTRIBUTING.md, CHANGELOG.md and the plugin's page lie outside of docs/ and become pages too.
- Other links out of docs/ (code, examples, results) lead to the repository, whose address pyproject.toml knows.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
OUTSIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/plugin/README.md": "plugin.md",
}
LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^```.*?^```$", re.S | re.M)


def page_of(path: str) -> str | None:
    """The site's page for a file of the repository, relative to docs/; None: it has none."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    inside = path.removeprefix("docs/")
    return inside if inside != path and (ROOT / path).suffix in (".md", ".svg", ".png", ".ipynb") else None


def navigation(contents: str) -> list[dict[str, object]]:
    """Sections of the contents page, each with the pages that it links to; a page is listed once, where it is first."""
    seen, sections = {"README.md"}, [{"Home": "README.md"}]
    for heading, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", contents, re.S | re.M):
        pages = []
        for title, target in re.findall(r"\[([^\]]+)\]\((?!https?://)([^)\s#]+)\)", body):
            page = page_of(posixpath.normpath(posixpath.join("docs", target)))
            if page and page not in seen:
                seen.add(page)
                pages.append({title[0].upper() + title[1:]: page})
        sections.append({heading: pages})
    return sections


def relinked(markdown: str, source: str, page: str, repository: str) -> str:
    """The text with links as the site needs them.

    Args:
        markdown: The page.
        source: Its file, from the repository's root.
        page: Its page, from the site's root.
        repository: The address of the repository.
    """

    def link(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        found = page_of(path)
        if found:
            return f"]({posixpath.relpath(found, posixpath.dirname(page) or '.')}{anchor})"
        if not (ROOT / path).exists():
            return match[0]  # mkdocs says that it leads nowhere
        return f"]({repository}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{path}{anchor})"

    parts, cursor = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(link, markdown[cursor : fence.start()]), fence[0]]
        cursor = fence.end()
    return "".join([*parts, LINK.sub(link, markdown[cursor:])])


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Address and navigation."""
    from pymdownx.slugs import slugify

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    config.repo_url = project["urls"]["Repository"]
    config.repo_name = config.site_name
    config.nav = navigation((ROOT / "docs" / "README.md").read_text(encoding="utf-8"))
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")  # as git hosts name headings
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages from outside of docs/."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Links, before mkdocs checks them."""
    sources = {there: here for here, there in OUTSIDE.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return relinked(markdown, source, page.file.src_uri, config.repo_url or "")
