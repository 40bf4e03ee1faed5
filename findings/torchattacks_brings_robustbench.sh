#!/usr/bin/env bash
# Installing torchattacks puts a package of another name over RobustBench.
#
# Expected: torchattacks installs `torchattacks`.
# Seen:     its wheel holds a second top-level package, `robustbench`, whose files have the names
#           of RobustBench's own. Whichever is installed last wins, pip reports no conflict, and
#           uninstalling torchattacks takes files of RobustBench along.
# Versions: torchattacks 3.5.1, robustbench 1.1.1 (Python 3.11).
# Hurts:    who compares with RobustBench's models: the code that runs is an old copy, or is
#           gone.
# Instead:  two environments; or torchattacks first and RobustBench after it.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
for package in robustbench==1.1.1 torchattacks==3.5.1; do
  "$dir/venv/bin/pip" install -q --no-deps --target "$dir/${package%%=*}" "$package"
done
"$dir/venv/bin/python" - "$dir" <<'PYTHON'
import sys
from pathlib import Path

roots = {name: Path(sys.argv[1], name) for name in ("robustbench", "torchattacks")}
files = {
    name: {str(p.relative_to(root)): p.read_bytes() for p in root.glob("robustbench/**/*.py")}
    for name, root in roots.items()
}
shared = files["robustbench"].keys() & files["torchattacks"].keys()
other = sum(files["robustbench"][path] != files["torchattacks"][path] for path in shared)
print(f"torchattacks brings {len(files['torchattacks'])} files of robustbench, {len(shared)} named "
      f"like RobustBench's own, {other} of these with other content")
assert (roots["torchattacks"] / "torchattacks").is_dir()
assert len(shared) >= 3 and other >= 1
PYTHON
