"""Run `bench` for several shapes and print tables: for machines where the package is not installed (PYTHONPATH=src)."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path

from weavetime.bench import Setting, bench


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    kinds = {f.name: type(f.default) for f in fields(Setting)}
    for word in sys.argv[2:]:
        shape, *more = word.split(",")
        settings = dict(pair.split("=") for pair in more)
        result = bench(
            Setting(shape=shape, **{k: kinds[k](int(v)) for k, v in settings.items()}),
            lambda text: print(text, file=sys.stderr),
        )
        (out / f"bench-{shape}.json").write_text(json.dumps(result, indent=2))
        print(shape, result["device"], result["versions"], result["limits"])
        for row in result["rows"]:
            limit = f"{row['limit']:10.2f} {row['ratio']:6.2f}" if row["limit"] else ""
            print(f"  {row['name']:30s} {row['value']:10.2f} {row['unit']:9s} {limit}")


main()
