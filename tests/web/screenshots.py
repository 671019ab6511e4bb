"""Screenshots of every page in both themes and both sizes, on an installation where something has happened.

python -m tests.web.screenshots [a page's name or address …]        into build/screenshots or CLAWHAVEN_SCREENSHOTS
"""

from __future__ import annotations

import os
import sys

TEST = "tests/web/test_accessibility.py::test_every_page_in_every_look"

if __name__ == "__main__":
    environment = {**os.environ, "CLAWHAVEN_PAGES": " ".join(sys.argv[1:])}
    os.execve(sys.executable, [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TEST], environment)
