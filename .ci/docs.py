"""Builds the pages as a site with search, below build/docs/site.

    python .ci/docs.py

The pages are written to be read in the repository; what leads out of `docs/` leads here to a copy. A
link that leads nowhere, or a page that no menu leads to, ends it with 1.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "docs"
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")
# Pages outside docs/, by their place in the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "reporting.md",
    "examples/shop/README.md": "example.md",
}
SECTIONS = {
    "Start": ["README.md", "examples/shop/README.md"],
    "Use": ["docs/spec.md", "docs/cli.md", "docs/how-it-decides.md", "docs/troubleshooting.md", "docs/preflight/*.md"],
    "Platforms": ["docs/compose.md", "docs/kubernetes.md", "docs/front-proxy.md"],
    "Operate": ["docs/operations.md", "docs/self-hosting.md", "docs/security.md", "docs/*.md"],
    "Project": ["docs/architecture.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/decisions/*.md"],
}


def place_of(path: Path) -> Path:
    """Where a file of the repository is in the site."""
    name = path.relative_to(ROOT).as_posix()
    if name in PAGES:
        return Path(PAGES[name])
    return Path(name).relative_to("docs") if name.startswith("docs/") else Path("files") / name


def sections() -> dict[str, list[Path]]:
    """The menu: each page once, in the first section that names it; what is named as it is before what is found."""
    exact = {ROOT / name for names in SECTIONS.values() for name in names if "*" not in name}
    menu: dict[str, list[Path]] = {}
    seen: set[Path] = set()
    for title, names in SECTIONS.items():
        menu[title] = []
        for name in names:
            found = sorted(ROOT.glob(name)) if "*" in name else [ROOT / name]
            pages = [page for page in found if page not in seen and ("*" not in name or page not in exact)]
            seen.update(pages)
            menu[title] += pages
    return menu


def title_of(page: Path) -> str:
    """The page's first heading."""
    match = re.search(r"^# (.+)$", page.read_text(), re.MULTILINE)
    return match[1].replace("`", "") if match else page.stem


def write_sources(into: Path) -> None:
    """Copies the pages, with the links that lead out of docs/ led to copies."""

    def lead(page: Path, link: str) -> str:
        target = (page.parent / link).resolve()
        if not target.exists():
            raise SystemExit(f"{page.relative_to(ROOT)}: the link {link} leads nowhere")
        if target.is_dir():
            target = target / "README.md"
        if target.suffix != ".md":
            copy = into / place_of(target)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(target, copy)
        up = "../" * (len(place_of(page).parts) - 1)
        return up + place_of(target).as_posix()

    menu = [page for pages in sections().values() for page in pages]
    if forgotten := {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")} - set(menu):
        raise SystemExit(f"no menu leads to {', '.join(sorted(page.name for page in forgotten))}")
    for page in menu:
        goal = into / place_of(page)
        goal.parent.mkdir(parents=True, exist_ok=True)
        goal.write_text(LINK.sub(lambda match, page=page: lead(page, match[1]), page.read_text()))


def configuration() -> str:
    """The site's configuration, as its generator reads it."""
    lines = [
        "[project]",
        'site_name = "deployment-specialist"',
        'docs_dir = "pages"',
        'site_dir = "site"',
        "use_directory_urls = false",
        "nav = [",
    ]
    for title, pages in sections().items():
        entries = ", ".join(f'{{"{title_of(page)}" = "{place_of(page).as_posix()}"}}' for page in pages)
        lines.append(f'  {{"{title}" = [{entries}]}},')
    lines += ["]", "[project.theme]", 'features = ["navigation.tabs", "navigation.indexes", "search.highlight"]']
    fences = '[{name = "mermaid", class = "mermaid", format = "pymdownx.superfences.fence_code_format"}]'
    lines += ["[project.markdown_extensions.pymdownx.superfences]", f"custom_fences = {fences}"]
    lines += ["[project.markdown_extensions.tables]", "[project.markdown_extensions.toc]", "permalink = true"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Builds it."""
    shutil.rmtree(BUILD, ignore_errors=True)
    write_sources(BUILD / "pages")
    (BUILD / "zensical.toml").write_text(configuration())
    program = Path(sys.executable).with_name("zensical")
    ran = subprocess.run([program, "build", "--clean"], cwd=BUILD, check=False)
    if ran.returncode:
        sys.exit(ran.returncode)
    sys.stdout.write("built: build/docs/site/index.html\n")


if __name__ == "__main__":
    main()
