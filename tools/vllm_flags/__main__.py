"""Write the table, or say what it lacks."""

from __future__ import annotations

import argparse
import json
import sys

from tools.vllm_flags import fetch, table


def main() -> int:
    """Return 1 where the check finds arguments that the table lacks, which is for people to see and stops no build."""
    options = argparse.ArgumentParser(prog="tools.vllm_flags", description=__doc__)
    options.add_argument("--check", action="store_true", help="say what the newest release has that the table lacks")
    options.add_argument("--fetch", nargs="*", metavar="RELEASE", help="only fetch and read these releases")
    given = options.parse_args()
    if given.fetch is not None:
        for release in given.fetch:
            sys.stdout.write(f"vLLM {release}: {len(table.read(release))} arguments\n")
            sys.stdout.flush()
        return 0
    return _check() if given.check else _write()


def _check() -> int:
    known = json.loads(table.FILE.read_text(encoding="utf-8"))
    newest = fetch.published()[-1]
    lacking = table.missing(table.read(newest), known["arguments"])
    if lacking:
        sys.stdout.write(f"vLLM {newest} has arguments that the table lacks: {', '.join(lacking)}\n")
        sys.stdout.write("run make release-flags, and read what becomes of the fields\n")
        return 1
    sys.stdout.write(f"the table has every argument of vLLM {newest}; its newest release is {known['releases'][-1]}\n")
    return 0


def _write() -> int:
    releases = {}
    for release in fetch.published():
        releases[release] = table.read(release)
        sys.stdout.write(f"vLLM {release}: {len(releases[release])} arguments\n")
    memory_since = next(release for release in releases if table.reads_kv_cache_memory_on_cpu(release))
    unbound_since = next(release for release in releases if table.leaves_threads_unbound_on_cpu(release))
    table.FILE.write_text(table.written(releases, memory_since, unbound_since), encoding="utf-8")
    sys.stdout.write(f"wrote {table.FILE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
