"""The guide: Markdown pages to HTML that needs no network, no script and no font.

The one idea: formulas and pictures are inline SVG in the colour of the text, so one page serves light and dark mode. A code
span that is a public name links to its place in the API; a link to a page or a place that is not there is an error.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

import markdown2
import pictures
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

import imbalanced_regression as library

PAGES = Path(__file__).resolve().parent / "pages"

_FORMULA = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PICTURE = re.compile(r"!\[(.*?)\]\((?:\.\./)?pictures/(\w+)\.svg\)")
_EXTRAS = {"fenced-code-blocks": {"cssclass": "code"}, "tables": None, "header-ids": None, "cuddled-lists": None}
_SIZE = 16.0  # of formulas, in pixels
_SUM = re.compile(r"(\\sum_(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|\w))")


def build(out: Path) -> None:
    """Write pages/*.html and the style below `out`, and make `out`/index.html lead to them.

    Raises ValueError for a formula that cannot be set, a picture that nobody draws, or a link that leads nowhere.
    """
    target = out / "pages"
    drawn = pictures.draw_all()
    (target / "methods").mkdir(parents=True, exist_ok=True)
    (target / "style.css").write_text((PAGES.parent / "style.css").read_text())
    sources = sorted(PAGES.rglob("*.md"))
    for source in sources:
        place = source.relative_to(PAGES).with_suffix(".html")
        (target / place).write_text(page(source.read_text(), place, drawn))
    check_links(target)
    leads = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=pages/index.html">'
    (out / "index.html").write_text(f'{leads}<a href="pages/index.html">Guide</a>\n')


def page(text: str, place: Path, drawn: dict[str, str]) -> str:
    """One page of Markdown as HTML; `place` is where it will lie below pages/, `drawn` the pictures by name."""
    up = "../" * (len(place.parts) - 1)
    held: list[str] = []

    def hold(svg: str) -> str:  # Markdown must not see it
        held.append(svg)
        return f"HELD{len(held) - 1}HELD"

    try:
        text = _FORMULA.sub(lambda found: hold(formula(found[1])), text)
        text = _PICTURE.sub(lambda found: hold(_figure(found[1], drawn[found[2]])), text)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{place.with_suffix('.md')}: {error}") from None
    body = str(markdown2.markdown(text, extras=_EXTRAS))
    body = re.sub(r"(?:<p>)?HELD(\d+)HELD(?:</p>)?", lambda found: held[int(found[1])], body)
    body = re.sub(r'(<a href="(?!\w+:)[^"]*)\.md(#[^"]*)?"', r'\1.html\2"', body)
    body = re.sub(r"<code>([A-Za-z_]\w*)([^<]*)</code>", lambda found: _to_api(found, up), body)
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    if not title:
        raise ValueError(f"{place.with_suffix('.md')}: expected a first heading, '# ...', found none")
    links = {"Methods": "index.html", "My data are ...": "chooser.html", "Metrics": "metrics.html",
             "Add a method": "add_a_method.html", "Migration": "migration.html", "API": "../imbalanced_regression.html"}
    bar = "".join(f'<a href="{up}{link}">{name}</a>' for name, link in links.items())
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title[1])}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="stylesheet" href="{up}style.css"></head>\n<body><nav>{bar}</nav>\n<main>\n{body}</main></body></html>\n'
    )


def formula(tex: str) -> str:
    """Lines of mathtext as SVG paths, a line each; a line that is empty divides.

    Raises ValueError for what mathtext cannot set.
    """
    lines = [line.strip() for line in tex.strip().splitlines()]  # mathtext sets fractions small, and terms close to their sum
    parts = []
    for line in lines:
        try:
            spaced = _SUM.sub(r"\1\\;", line).replace(r"\frac", r"\dfrac")
            outline = TextPath((0, 0), f"${spaced}$", size=_SIZE, prop=FontProperties(math_fontfamily="stix"))
        except ValueError as error:
            raise ValueError(f"formula {line!r}: {str(error).splitlines()[0]}") from None
        box = outline.get_extents()
        path = " ".join(_commands(outline))
        size = f'width="{box.width + 2:.1f}" height="{box.height + 2:.1f}"'
        view = f'viewBox="{box.x0 - 1:.1f} {-box.y1 - 1:.1f} {box.width + 2:.1f} {box.height + 2:.1f}"'
        parts.append(
            f'<svg role="img" aria-label="{html.escape(line)}" {size} {view}><path fill="currentColor" d="{path}"/></svg>'
        )
    return f'<div class="formula">{"<br>".join(parts)}</div>'


def _commands(outline: TextPath):
    letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}  # matplotlib's codes; y points down in SVG
    for points, code in outline.iter_segments(simplify=False):
        numbers = [] if code == 79 else [f"{-value if i % 2 else value:.2f}" for i, value in enumerate(points)]
        yield letters[int(code)] + " ".join(numbers)


def _figure(caption: str, svg: str) -> str:
    said = markdown2.markdown(caption).strip().removeprefix("<p>").removesuffix("</p>")
    return f"<figure>{svg}<figcaption>{said}</figcaption></figure>"


def _to_api(found: re.Match, up: str) -> str:
    name = found[1]
    if name not in library.__all__ or not re.fullmatch(r"(\.\w+)*(\(.*\))?", found[2]):
        return found[0]
    return f'<a href="{up}../imbalanced_regression.html#{name}">{found[0]}</a>'


def check_links(folder: Path) -> None:
    """Raise ValueError where a page below `folder` links to a file, or a place in one, that is not there."""
    for source in sorted(folder.rglob("*.html")):
        for link in re.findall(r'href="(?!\w+:)([^"]*)"', source.read_text()):
            path, _, place = link.partition("#")
            file = source.parent / path if path else source
            if not file.is_file() or place and f'id="{place}"' not in file.read_text():
                raise ValueError(f"{source.relative_to(folder)}: the link to {link} leads nowhere")
