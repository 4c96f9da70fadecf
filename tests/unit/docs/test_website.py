"""The documentation as a site: it builds, and a dead link or a page outside the navigation fails the build."""

import json
import runpy
from collections.abc import Iterable
from pathlib import Path

import pytest

from support.paths import ROOT

WEBSITE = runpy.run_path(str(ROOT / "tools/website.py"))


def test_site__builds_and_can_be_searched(tmp_path: Path) -> None:
    WEBSITE["stage"](ROOT, tmp_path / "work")
    site = WEBSITE["build"](tmp_path / "work")
    found = {item["location"] for item in json.loads((site / "search.json").read_text(encoding="utf-8"))["items"]}
    assert {"index.html", "docs/reference/crds.html#missionspec"} <= found
    assert (site / "planner/index.html").is_file()
    assert (site / "tools/kindlab/kindlab").is_file()  # not a page, but a page links to it


def test_dead_link__fails_the_build_with_file_and_line(tmp_path: Path) -> None:
    WEBSITE["stage"](ROOT, tmp_path)
    page = tmp_path / WEBSITE["PAGES"] / "docs/tutorial.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    page.write_text("\n".join([*lines, "", "See [there](concepts/nowhere.md)."]), encoding="utf-8")
    with pytest.raises(WEBSITE["Invalid"], match=rf"docs/tutorial\.md:{len(lines) + 2}"):
        WEBSITE["build"](tmp_path)


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        ('<a href="there.html#plan">', None),
        ('<a href="https://example.org/there">', None),
        ('<a href="nowhere.yaml">', "dead link nowhere.yaml"),
        ('<img src="nowhere.svg">', "dead link nowhere.svg"),
        ('<a href="there.html#nowhere">', "dead anchor there.html#nowhere"),
        ('<a href="#nowhere">', "dead anchor #nowhere"),
        ('<script src="https://example.org/a.js"></script>', "loads https://example.org/a.js from another host"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "loads //example.org/a.css from another host"),
        ('<pre class="mermaid"></pre>', "a Mermaid diagram needs a script"),
        ("<article><p>Either:\n- this</p></article>", "a list is shown as text"),
        ("<article><pre><code>either:\n- this</code></pre></article>", None),
    ],
)
def test_check__names_the_problem_of_a_page(tmp_path: Path, body: str, finding: str | None) -> None:
    findings = _findings(
        tmp_path, index=f"{_menu('index.html')}{_menu('there.html')}{body}", there='<h2 id="plan"></h2>'
    )
    assert findings.startswith(f"index.html: {finding}") if finding else findings == ""


def test_check__names_a_page_that_the_navigation_lacks(tmp_path: Path) -> None:
    findings = _findings(tmp_path, index=_menu("index.html"), there="")
    assert findings == "there.html: not in the navigation: add it to zensical.toml"


def test_check__names_an_entry_of_the_navigation_without_a_page(tmp_path: Path) -> None:
    findings = _findings(tmp_path, [Path("README.md"), Path("docs/gone.md")], index=_menu("index.html"))
    assert findings == "docs/gone.md: in the navigation of zensical.toml, but not a page"


def _menu(page: str) -> str:
    return f'<a class="md-nav__link" href="{page}">'


def _findings(site: Path, navigation: Iterable[Path] = (), **pages: str) -> str:
    """Write the pages of a site by name and return what its check reports."""
    for name, text in pages.items():
        (site / f"{name}.html").write_text(text, encoding="utf-8")
    try:
        WEBSITE["check"](site, [*navigation])
    except WEBSITE["Invalid"] as error:
        return str(error)
    return ""
