"""Build the documentation as a static site in build/site, and check it: `python tools/website.py`.

The site mirrors the repository. A page keeps its path, and the files that pages link to (examples, source files) are
part of the site, so that every link is the same on the site, in a checkout and on a code host.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from markdown import Extension, Markdown
from markdown.blockprocessors import ListIndentProcessor
from markdown.extensions.sane_lists import SaneOListProcessor, SaneUListProcessor

ROOT: Final = Path(__file__).resolve().parents[1]
CONFIG: Final = "zensical.toml"
PAGES: Final = "pages"
"""Folder of the sources in the folder of the build; `docs_dir` of the configuration."""
SITE: Final = "site"
"""Folder of the result in the folder of the build; `site_dir` of the configuration."""
_CODE: Final = re.compile(r"^( *)(```+).*?^\1\2 *$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\]\(<?([^)>\s#]+)")
_LIST: Final = re.compile(r"\n *(?:[0-9]+\.|[-*]) .*")
_CODE_TAGS: Final = {"code", "pre", "script", "style"}
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


class Invalid(Exception):
    """The site cannot be built, or has dead links; the message lists all findings."""


def stage(root: Path, work: Path) -> None:
    """Copy the configuration, all pages, and the files that they link to from `root` to the new folder `work`.

    Pages are those of the navigation and of docs/, and the Markdown files that they link to.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    shutil.copy(root / CONFIG, work)
    waiting = [*_navigation(root), *(path.relative_to(root) for path in (root / "docs").rglob("*") if path.is_file())]
    done: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in done or not (root / path).is_file():  # the build reports what is missing
            continue
        done.add(path)
        (work / PAGES / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path, work / PAGES / path)
        if path.suffix == ".md":
            waiting += _linked(root, path)


def _navigation(root: Path) -> list[Path]:
    """Return the pages of the navigation."""

    def pages(entry: Any) -> Iterator[Path]:
        if isinstance(entry, str):
            yield Path(entry)
        else:
            for below in entry.values() if isinstance(entry, dict) else entry:
                yield from pages(below)

    return [*pages(tomllib.loads((root / CONFIG).read_text(encoding="utf-8"))["project"]["nav"])]


def _linked(root: Path, page: Path) -> Iterator[Path]:
    """Yield the files of the repository that a page links to."""
    for target in _LINK.findall(_CODE.sub("", (root / page).read_text(encoding="utf-8"))):
        if not urlsplit(target).scheme:
            path = Path(os.path.normpath(page.parent / unquote(target)))
            if ".." not in path.parts and (root / path).is_file():
                yield path


def build(work: Path) -> Path:
    """Build the staged pages and return the folder of the site. Raise Invalid."""
    program = Path(sys.executable).parent / "zensical"
    done = subprocess.run(  # noqa: S603 - a program of this environment
        [program, "build", "--strict", "--clean"],
        cwd=work,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parent)},
    )
    if done.returncode:
        raise Invalid(_COLOUR.sub("", done.stdout + done.stderr).partition("Traceback")[0].strip())
    for path in (work / PAGES).rglob(".*"):  # the program leaves out hidden files and folders
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, work / SITE / path.relative_to(work / PAGES))
    check(work / SITE, _navigation(work))
    return work / SITE


class NestedLists(Extension):
    """Markdown extension: what is indented by two spaces belongs to a list item, as on code hosts.

    Python-Markdown asks for four, and takes every other indentation as text or as the next item of the outer list.
    """

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - a name of Python-Markdown
        md.tab_length = 2
        parser = md.parser
        parser.blockprocessors.register(ListIndentProcessor(parser), "indent", 90)
        parser.blockprocessors.register(SaneOListProcessor(parser), "olist", 40)
        parser.blockprocessors.register(SaneUListProcessor(parser), "ulist", 30)
        parser.blockprocessors.deregister("code")  # code is fenced


class _Page(HTMLParser):
    """Links, anchors, loaded resources and faults of one page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.resources: list[str] = []
        self.anchors = {"", "__top"}
        self.menu: list[str] = []
        self.faults: list[str] = []
        self._article = 0  # depth of elements: in the text of the page, not in menus
        self._code = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        classes = values.get("class", "").split()
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self._article += tag == "article"
        self._code += tag in _CODE_TAGS
        if "mermaid" in classes:
            self.faults.append("a Mermaid diagram needs a script of another host: draw it as SVG in docs/images")
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
            if "md-nav__link" in classes:
                self.menu.append(values["href"])
        elif tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.resources.append(values.get("href", ""))
        elif "src" in values:
            self.resources.append(values["src"])

    def handle_endtag(self, tag: str) -> None:
        self._article -= tag == "article"
        self._code -= tag in _CODE_TAGS

    def handle_data(self, data: str) -> None:
        if self._article and not self._code and (found := _LIST.search(data)):
            self.faults.append(f"a list is shown as text: put an empty line before {found[0].strip()!r}")


def check(site: Path, pages: list[Path]) -> None:
    """Raise Invalid with every dead link, page outside the navigation and resource of another host."""
    parsed = {path.relative_to(site): _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    found = [line for path, page in sorted(parsed.items()) for line in _findings(site, path, page, parsed)]
    reachable = {_target(Path("index.html"), link)[0] for link in parsed[Path("index.html")].menu}
    found += [
        f"{path}: not in the navigation: add it to {CONFIG}"
        for path in sorted(parsed.keys() - reachable - {Path("404.html")})
    ]
    found += [f"{page}: in the navigation of {CONFIG}, but not a page" for page in pages if _built(page) not in parsed]
    if found:
        raise Invalid("\n".join(found))


def _built(page: Path) -> Path:
    return page.with_name("index.html") if page.name == "README.md" else page.with_suffix(".html")


def _target(page: Path, link: str) -> tuple[Path, str]:
    """Return the file and the anchor of a relative link."""
    parts = urlsplit(link)
    path = Path(os.path.normpath(page.parent / unquote(parts.path))) if parts.path else page
    return path, unquote(parts.fragment)


def _findings(site: Path, path: Path, page: _Page, parsed: dict[Path, _Page]) -> Iterator[str]:
    for fault in page.faults:
        yield f"{path}: {fault}"
    for link in [*page.links, *page.resources]:
        if urlsplit(link).scheme or link.startswith("//"):
            if link in page.resources and not link.startswith("data:"):
                yield f"{path}: loads {link} from another host"
            continue
        if path.name == "404.html":
            continue  # its links are absolute
        target, anchor = _target(path, link)
        if not (site / target).is_file():
            yield f"{path}: dead link {link}"
        elif anchor and target in parsed and anchor not in parsed[target].anchors:
            yield f"{path}: dead anchor {link}"


def main() -> int:
    """Build the site; return exit code 1 if a link is dead."""
    parser = argparse.ArgumentParser(prog="python tools/website.py", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "build/site", help="folder for the site")
    output: Path = parser.parse_args().output
    work = output.with_name(f"{output.name}-sources")
    stage(ROOT, work)
    try:
        site = build(work)
    except Invalid as error:
        print(error, file=sys.stderr)
        return 1
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(site, output)
    print(f"{output}/index.html; with search: {sys.executable} -m http.server -d {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
