"""Sphinx extension: interactive charts (Vega-Lite outputs of notebooks) on the site.

A chart becomes its picture, a form with its controls, and its specification as inline JSON;
``static/charts.js`` draws it over the picture. Without JavaScript, and in print, the picture stays. The
controls are HTML of our own, because Vega's have no labels that a screen reader finds. Only a page with a
chart loads the script.
"""

import copy
import html
import json
import struct
from base64 import b64decode
from functools import cache
from pathlib import Path

import vl_convert
from docutils import nodes
from myst_nb.core import render
from sphinx.application import Sphinx

MIME_TYPE = "application/vnd.vegalite.v5+json"
VEGA_LITE = "6.4"
SCRIPT = f"vega-lite-{VEGA_LITE}.js"


def _control(identifier: str, param: dict, only: str | None, chosen: set) -> str:
    """A labelled slider or menu for one parameter of a chart."""
    bind, value = param["bind"], param["value"]
    label = html.escape(bind.get("name", param["name"]).strip())
    common = f'id="{identifier}" name="{param["name"]}"'
    if bind["input"] == "range":
        limits = f'min="{bind["min"]:g}" max="{bind["max"]:g}" step="{bind["step"]:g}" value="{value:g}"'
        field = f'<input type="range" {common} {limits}><output for="{identifier}">{value:g}</output>'
    elif bind["input"] == "select":
        options = (
            f"<option{' selected' if option == value else ''}>{html.escape(str(option))}</option>"
            for option in bind["options"]
        )
        field = f"<select {common}>{''.join(options)}</select>"
    else:
        raise ValueError(f"a chart's control must be a range or a select, got {bind['input']!r}")
    # What belongs to an activation that is not chosen is hidden from the start; later it would move the page.
    belongs = f' data-only="{html.escape(only)}"{"" if only in chosen else " hidden"}' if only else ""
    return f'<div class="chart-control"{belongs}><label for="{identifier}">{label}</label>{field}</div>'


def _text(title: str | dict) -> str:
    return title if isinstance(title, str) else title["text"]


def _stacked_height(spec: dict) -> int:
    """The height of the chart with its panels one above the other, as on a phone."""
    stacked = copy.deepcopy(spec) | {"columns": 1}
    root = vl_convert.vegalite_to_svg(stacked, vl_version=VEGA_LITE).split(">", 1)[0]
    return round(float(root.split(' height="')[1].split('"')[0]))


class VegaLite:
    """Renders a Vega-Lite output (see myst_nb.core.render.MimeRenderPlugin)."""

    mime_priority_overrides = (
        ("html", MIME_TYPE, 1),
        ("dirhtml", MIME_TYPE, 1),
        ("singlehtml", MIME_TYPE, 1),
    )

    @staticmethod
    def handle_mime(renderer, data, inline: bool) -> list[nodes.Node] | None:
        if data.mime_type != MIME_TYPE:
            return None
        if inline:
            return []
        spec = json.loads(data.content) if isinstance(data.content, str) else data.content
        _, outputs = renderer.renderer.nb_client.code_cell_outputs(data.cell_index)
        png = outputs[data.output_index]["data"].get("image/png")
        if png is None:
            renderer.logger.warning("an interactive chart without an image/png fallback", line=data.line)
            return []
        picture = render.MimeData(
            "image/png",
            png,
            data.cell_metadata,
            data.output_metadata,
            data.cell_index,
            data.output_index,
            data.line,
        )
        (image,) = renderer.render_image(picture)
        image.setdefault("alt", spec["description"])
        return _nodes(spec, image, b64decode(png), f"chart-{data.cell_index}-{data.output_index}")


def _nodes(spec: dict, image: nodes.image, png: bytes, identifier: str) -> list[nodes.Node]:
    only = spec.get("usermeta", {}).get("only", {})
    params = [param for param in spec.get("params", ()) if "bind" in param]
    chosen = {param["value"] for param in params if param["bind"]["input"] == "select"}
    controls = "".join(
        _control(f"{identifier}-{param['name']}", param, only.get(param["name"]) if chosen else None, chosen)
        for param in params
    )
    _, side = struct.unpack(">II", png[16:24])
    stacked = _stacked_height(spec) if len(spec.get("concat", ())) > 1 else side
    title = html.escape(_text(spec["title"]))
    alt = html.escape(image["alt"])
    inline = json.dumps(spec, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    before = (
        f'<div class="chart" id="{identifier}" style="--side:{side}px;--stacked:{stacked}px">'
        f'<form class="chart-controls" aria-label="{title}: controls">{controls}</form>'
        '<div class="chart-picture">'
    )
    after = (
        f'<div class="chart-live" role="img" aria-label="{alt}" hidden></div></div>'
        '<p class="chart-reading"></p>'
        f'<script type="application/json">{inline}</script></div>'
    )
    return [
        nodes.raw("", before, format="html", chart=True),
        image,
        nodes.raw("", after, format="html"),
    ]


def load_script(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Give a page that has a chart the style sheet and the two scripts; other pages nothing."""
    if doctree is None or not any(raw.get("chart") for raw in doctree.findall(nodes.raw)):
        return
    script = Path(app.outdir, "_static", SCRIPT)
    if not script.exists():
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(_bundle(), encoding="utf-8")
    app.add_css_file("charts.css")
    # Classic scripts: modules are blocked where the site is opened as files.
    app.add_js_file(SCRIPT, loading_method="defer")
    app.add_js_file("charts.js", loading_method="defer")


@cache
def _bundle() -> str:
    # In a scope of its own: its hundreds of names would collide with those of the theme's scripts.
    return f"(() => {{{vl_convert.javascript_bundle(vl_version=VEGA_LITE)}}})();"


def setup(app: Sphinx) -> dict:
    # myst-nb finds its renderers among the entry points of installed packages; this folder is none.
    others = render.load_mime_renders()
    if VegaLite not in others:
        render.load_mime_renders = lambda: [*others, VegaLite]
    app.connect("html-page-context", load_script)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
