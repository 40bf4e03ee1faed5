#!/usr/bin/env bash
# Installing torchattacks puts a package of another name over RobustBench.
#
# Expected: torchattacks installs `torchattacks`, and uninstalling it takes that away.
# Seen:     its wheel holds a second top-level package, `robustbench`, whose files have the names
#           of RobustBench's own. pip writes them over RobustBench's without a word, and
#           uninstalling torchattacks removes them: RobustBench, installed by name, is in pieces.
# Versions: torchattacks 3.5.1, robustbench 1.1.1 (Python 3.11).
# Hurts:    who compares with RobustBench's models: the code that runs is an old copy, or is
#           gone.
# Instead:  two environments; or torchattacks first and RobustBench after it.
set -euo pipefail
export LC_ALL=C
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
pip="$dir/venv/bin/pip"
where="$("$dir/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
files() { (cd "$where" && find robustbench -name "*.py" -exec sha256sum {} + | sort); }

"$pip" install -q --no-deps robustbench==1.1.1
files > "$dir/before"
"$pip" install --no-deps torchattacks==3.5.1 > "$dir/said" 2>&1
files > "$dir/with"
"$pip" uninstall -q -y torchattacks
files > "$dir/after"

had="$(wc -l < "$dir/before")"
changed="$(comm -23 "$dir/before" "$dir/with" | wc -l)"
gone="$((had - $(wc -l < "$dir/after")))"
warned="$(grep -ciE "conflict|overwrit|already exist" "$dir/said" || true)"
listed="$("$pip" list --format=freeze | grep robustbench)"
echo "of RobustBench's $had files torchattacks overwrote $changed with others (warnings of it: $warned)" \
  "and took $gone along when it went; pip still lists $listed"
test "$warned" -eq 0 && test "$changed" -ge 1 && test "$gone" -ge 3
