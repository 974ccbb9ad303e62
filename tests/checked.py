"""The checker of types and shapes that `conftest.py` puts on the core: beartype, for which an int is a float, too."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
