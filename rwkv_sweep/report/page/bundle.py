"""Vega and Vega-Lite as one script for the page, as vl-convert contains them: `assets/report/vega.js`.

Written again, after an update of vl-convert, by

    python -m rwkv_sweep.report.page.bundle
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from rwkv_sweep.utils.files import write_atomically
from rwkv_sweep.utils.package_paths import ASSETS

BUNDLE = ASSETS / "report" / "vega.js"


def heading() -> str:
    """The bundle's first line: the versions of what it contains, and the licence."""
    import vl_convert

    from rwkv_sweep.report.charts.files import VEGA_LITE

    vega, embed = vl_convert.get_vega_version(), vl_convert.get_vega_embed_version()
    return (
        f"/* Vega {vega}, Vega-Lite {VEGA_LITE}, vega-embed {embed}, from vl-convert {version('vl-convert-python')}; "
        "BSD-3-Clause, (c) University of Washington Interactive Data Lab: see vega.LICENSE. */"
    )


def write_bundle(path: Path = BUNDLE) -> Path:
    """Write the bundle to `path`; return it."""
    import vl_convert

    from rwkv_sweep.report.charts.files import VEGA_LITE

    # Its own type says that a snippet must be given, its description that none need be.
    script: str = vl_convert.javascript_bundle(None, vl_version=VEGA_LITE)  # type: ignore[arg-type]
    # Within a page this would end the script that contains it.
    script = script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    write_atomically(path, f"{heading()}\n{script.rstrip()}\n")
    return path


if __name__ == "__main__":
    print(write_bundle())
