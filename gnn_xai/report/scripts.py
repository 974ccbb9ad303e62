"""Scripts inside a page, which its policy allows by their hashes and by nothing else."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from gnn_xai.errors import InputError


@dataclass(frozen=True)
class Script:
    """A script of a page.

    Attributes:
        text: what stands between its tags.

    Raises:
        InputError: the text holds the end of a script.
    """

    text: Markup

    def __post_init__(self) -> None:
        if "</script" in self.text.lower():
            raise InputError("expected a script without '</script', which would end it on the page, got one with it")

    @property
    def hash(self) -> str:
        """The hash of the text, for the Content-Security-Policy of the page."""
        return f"sha256-{base64.b64encode(hashlib.sha256(self.text.encode()).digest()).decode()}"


def viewer_scripts(path: Path) -> list[Script]:
    """3Dmol.js and the script that shows a molecule when its button is pressed.

    Args:
        path: `3Dmol-min.js`, as it is in the folder `build` of the npm package `3dmol`.

    Raises:
        InputError: the file cannot be read, or is another one.
    """
    try:
        library = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot read the viewer in {path}: {why}; expected build/3Dmol-min.js of the npm package 3dmol"
        ) from error
    if "createViewer" not in library:
        raise InputError(
            f"expected {path} to be 3Dmol-min.js, got a file without createViewer; 'npm pack 3dmol' brings it, in "
            "package/build"
        )
    own = (files("gnn_xai.report") / "templates" / "space.js").read_text(encoding="utf-8")
    return [Script(Markup(library)), Script(Markup(own))]
