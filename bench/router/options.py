"""What every router benchmark is told on its command line."""

import argparse
import tempfile
from pathlib import Path


def parser_for(doc: str | None) -> argparse.ArgumentParser:
    """With the data's place, the cache of vectors, and the form of the output."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(tempfile.gettempdir()) / "echo-proxy-bench",
        help="folder where vectors are kept between runs",
    )
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    return parser
