"""Print how many tests of each folder passed; exit 1 if a folder skipped more than it ran.

Usage: `python count_tests.py JUNIT_XML`. Tests that need PyTorch are skipped where it is missing,
and this shows that enough others are left.
"""

import sys
import xml.etree.ElementTree as ET
from collections import Counter

PREFIX = "tests.bertrt."


def main() -> None:
    """Count the tests of a report by the first folder under tests/bertrt."""
    passed: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for case in ET.parse(sys.argv[1]).iter("testcase"):
        # A file that cannot be imported without PyTorch is one skipped case without this name.
        name = case.get("classname") or case.get("name", "")
        folder = name.removeprefix(PREFIX).partition(".")[0]
        if folder.startswith("test_"):  # a file beside the folders
            folder = "runtime"
        (passed if case.find("skipped") is None else skipped)[folder] += 1
    folders = sorted({*passed, *skipped})
    for folder in folders:
        print(f"{folder:20} {passed[folder]:5} passed {skipped[folder]:5} skipped")
    few = [folder for folder in folders if passed[folder] <= skipped[folder]]
    if few or not passed:
        sys.exit(f"more tests are skipped than run in {', '.join(few) or 'every folder'}")


if __name__ == "__main__":
    main()
