"""For mkdocs: pages that are elsewhere in the repository, and links between the two.

README, changelog, model card and others are pages of the site too, from their one source. Links are written so that
they work where the files are, and become links of the site here.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "rwkv_sweep/assets/README.md": "model_card.md",
    "pretraining/README.md": "pretraining.md",
}
COPIED = ("examples/sentence_embeddings.ipynb",)
LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages outside docs/."""
    for source, page in (*PAGES.items(), *((path, path) for path in COPIED)):
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Turn links between files of the repository into links between pages."""
    own = page.file.src_uri
    source = next((path for path, name in PAGES.items() if name == own), f"docs/{own}")

    def turned(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
        return f"{link[1]}{PAGES.get(target, target.removeprefix('docs/'))}{link[3]}"

    return LINK.sub(turned, markdown)
