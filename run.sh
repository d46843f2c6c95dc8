#!/usr/bin/env bash
# Textmint's front door: makes the virtual environment when it has to, then hands over to the job.
# Kept to bash 3.2, which is what macOS has.
set -euo pipefail

jobs="generate preview plan ledger rejects report"    # commands of the `textmint` program, passed on as they are
commands="$jobs test bench help"  # what --help lists

help() {
    cat <<'TEXT'
Usage: ./run.sh [COMMAND] [OPTIONS]

Mints text classification data with a large language model. Without a command it runs `generate` with its defaults:
the embedded model, no key needed, data in output/. The first run sets up .venv by itself.

Commands:
  generate   write a dataset; `./run.sh generate --help` explains every option
               ./run.sh generate --examples_per_task=10 --output=out/first
  preview    ask for ten examples, and show what every check says of each; generate does not pay for them again
               ./run.sh preview --llm=openai --model=gpt-4.1-mini
  plan       what generate will ask, what that costs and how long it takes; nothing is asked, and no key is needed
               ./run.sh plan --llm=openai --model=gpt-4.1-mini --task_requests=5000 --examples_per_task=10
  ledger     what was paid for, by refresh and model; with --compact, merge small files
               ./run.sh ledger --output=out/first
  rejects    what was refused, why, and the reply; with --reason, those of one reason
               ./run.sh rejects --output=out/first
  report     make OUTPUT/report.html anew, to be looked at in a browser; each run writes it too
               ./run.sh report --output=out/first
  test       install what the tests need, then run the linters and the tests; with arguments, pytest alone
               ./run.sh test
               ./run.sh test tests/test_run_sh.py -k help
  bench      measure speed and cost against an endpoint on this machine: a quarter of an hour, or a minute with --quick
               ./run.sh bench --quick
  help       this text
               ./run.sh --help

Paths in options are relative to the folder you call from.
PYTHON=/path/to/python3.12 ./run.sh chooses the Python (3.10 to 3.13) that .venv is made with.
TEXT
}

say() { printf '%s\n' "$*" >&2; }

# The folder of this script, also when it is called through a symbolic link.
script=${BASH_SOURCE[0]}
while [ -L "$script" ]; do
    target=$(readlink -- "$script")
    case $target in
        /*) script=$target ;;
        *) script=$(dirname -- "$script")/$target ;;
    esac
done
root=$(CDPATH='' cd -- "$(dirname -- "$script")" && pwd -P)
venv=$root/.venv
log=$venv/setup.log

# Prints the command that was probably meant: one that begins with the word, else one that is spelled much like it.
nearest() {
    local known
    for known in $commands; do
        case $known in "$1"*) printf '%s' "$known"; return ;; esac
    done
    # shellcheck disable=SC2086  # a list of words
    "${PYTHON:-python3}" -I -S -c 'import difflib, sys
print(*difflib.get_close_matches(sys.argv[1].lower(), sys.argv[2:], n=1), end="")' "$1" $commands 2>/dev/null || true
}

# Succeeds if a Python can make our virtual environment. Prints its version, and `novenv` after it if only the venv
# module is missing: Debian ships venv without ensurepip until python3-venv is installed.
probe() {
    "$1" -I -c '
import sys
print("%d.%d" % sys.version_info[:2], end="")
if not (3, 10) <= sys.version_info[:2] <= (3, 13): sys.exit(1)
try: import ensurepip, venv
except ImportError: print(" novenv", end=""); sys.exit(1)
' 2>/dev/null
}

# Sets $python to the interpreter to make .venv with. If a virtual environment is active this is the one beneath it, for
# the active one may be the very .venv that is about to be replaced.
find_python() {
    local candidates=(python3.13 python3.12 python3.11 python3.10 python3) candidate version seen='' lacking=''
    if [ -n "${PYTHON:-}" ]; then candidates=("$PYTHON"); fi
    for candidate in "${candidates[@]}"; do
        command -v -- "$candidate" >/dev/null || continue
        if version=$(probe "$candidate"); then
            python=$("$candidate" -I -c 'import sys
base = "%s/bin/python%d.%d" % (sys.base_prefix, *sys.version_info[:2])
print(base if sys.prefix != sys.base_prefix else sys.argv[1])' "$(command -v -- "$candidate")")
            return
        fi
        case $version in
            *novenv) lacking=${lacking:-${version% novenv}} ;;
            ?*) seen="$seen $candidate is $version." ;;
        esac
    done
    if [ -n "$lacking" ]; then
        say "run.sh: Python $lacking is here, but without its venv module: install python3-venv or python$lacking-venv."
    elif [ -n "${PYTHON:-}" ]; then
        say "run.sh: PYTHON=$PYTHON is not a working Python 3.10 to 3.13.$seen Name another one, or install one:"
    else
        say "run.sh: Textmint needs Python 3.10, 3.11, 3.12 or 3.13, and none was found.$seen Install one:"
    fi
    say "  Debian, Ubuntu:  sudo apt install python3 python3-venv"
    say "  macOS:           brew install python@3.13          (or the installer from python.org)"
    say "PYTHON=/path/to/python ./run.sh uses one that lies elsewhere."
    exit 1
}

# Prints, for a Python, a word that changes when .venv has to be made anew, also when the folder has moved.
stamp() {
    "$1" -I -S -c '
import hashlib, sys
digest = hashlib.sha256(repr((sys.version, sys.argv[1])).encode())
for path in sys.argv[2:]:
    with open(path, "rb") as file: digest.update(hashlib.sha256(file.read()).digest())
print(digest.hexdigest())
' "$root" "$root/requirements.lock" "$root/requirements-test.lock" "$root/setup.py" 2>/dev/null
}

# Succeeds if .venv is complete for `run` or `test`, with the Python that the user may have named.
is_ready() {
    local want
    [ -x "$venv/bin/python" ] && [ -f "$venv/.stamp-$1" ] || return 1
    want=$(stamp "${PYTHON:-$venv/bin/python}") && [ "$(cat "$venv/.stamp-$1")" = "$want" ]
}

child=''
# Ends the script, and what it had started for the set-up. Takes a signal's name and the exit code.
interrupted() {
    trap '' INT TERM
    if [ -n "$child" ]; then
        kill "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
        say "run.sh: ended by $1; the next call goes on with the set-up of .venv."
    fi
    exit "$2"
}
trap 'interrupted SIGINT 130' INT
trap 'interrupted SIGTERM 143' TERM

# Runs a command with its output in the log. It runs in the background, or a signal would wait for it.
logged() {
    local status=0
    "$@" >>"$log" 2>&1 </dev/null &
    child=$!
    wait "$child" || status=$?
    child=''
    return "$status"
}

# Installs what `run` or `test` needs: what the lock lists, each file by its hash, then Textmint itself. No package runs
# code of its own while it is installed, except Beam on a Mac with an Intel processor, which has no wheel there.
install() {
    local lock=$root/requirements.lock wheels=--only-binary=:all:
    if [ "$1" = test ]; then lock=$root/requirements-test.lock; fi
    case $(uname -sm) in 'Darwin x86_64') wheels=--prefer-binary ;; esac
    pip_install --require-hashes --no-deps "$wheels" -r "$lock"  # the lock is complete
    pip_install --no-deps --no-build-isolation -e "$root"
    logged "$venv/bin/python" -m textmint.transforms.quality.language_model || failed  # unpacks it, for a quick start
}

pip_install() {
    logged "$venv/bin/python" -m pip install --disable-pip-version-check --no-input "$@" || failed
}

failed() {
    say "run.sh: the set-up of .venv failed. The last lines of $log:"
    tail -n 20 "$log" | cut -c 1-300 >&2
    say "The next call starts the set-up afresh. It needs about 1 GB of disk and a package index that pip can reach."
    exit 1
}

# Makes .venv complete for `run` or `test`, or ends the script with the reason.
set_up() {
    is_ready "$1" && return
    local python='' made
    if ! is_ready run; then find_python; fi

    # One set-up at a time. The lock belongs to the open file, so it ends with this process. On a file system without
    # locks (some NFS) the set-up goes on without.
    exec 9<"$root/requirements.lock"
    "${python:-$venv/bin/python}" -I -c '
import fcntl, sys
try:
    try: fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another call is setting up .venv; waiting for it …", file=sys.stderr, flush=True)
        fcntl.flock(9, fcntl.LOCK_EX)
except OSError: pass
except KeyboardInterrupt: sys.exit(130)
'
    if ! is_ready "$1"; then
        if is_ready run; then
            say "Adding what the tests need to .venv (some seconds) …"
            : >"$log"
            # What is interrupted from here on is half a set-up, also for `run`.
            rm -f "$venv/.stamp-run"
        else
            if [ -z "$python" ]; then find_python; fi
            say "Setting up .venv with Python $(probe "$python") (first time, about a minute and 1 GB) …"
            # Anew, never on top of an old one: pip cannot repair what an interrupted pip left.
            rm -rf -- "$venv"
            mkdir -- "$venv"
            logged "$python" -m venv "$venv" || failed
        fi
        install "$1"
        made=$(stamp "$venv/bin/python")
        if [ "$1" = test ]; then printf '%s\n' "$made" >"$venv/.stamp-test"; fi
        printf '%s\n' "$made" >"$venv/.stamp-run"
    fi
    exec 9<&-
}

# Runs pytest with the arguments. Without any it runs the linters first, all of them even when one complains.
run_tests() {
    local py=$venv/bin/python status=0
    cd -- "$root"
    if [ $# -gt 0 ]; then exec "$py" -m pytest "$@"; fi
    "$py" -m ruff check . || status=1
    "$py" -m ruff format --check . || status=1
    # Neither of the next two sees through an editable install whose packages have other names than their folders.
    mkdir -p -- "$venv/src"
    ln -sfn ../.. "$venv/src/textmint"
    PYTHONPATH=$venv/src "$py" "$venv/bin/lint-imports" --no-logo || status=1
    "$py" -m mypy || status=1
    # Each process begins with its share, in order, since the tests of a file share their set-up.
    "$py" -m pytest -n auto --dist worksteal || status=$?
    exit "$status"
}

case ${1:-} in
    '') set -- generate ;;
    -h | --help) set -- help ;;
    --version) set -- version ;;
    -*) set -- generate "$@" ;;
esac
command=$1
shift

case " $jobs " in
    *" $command "*)
        set_up run
        # Not `python -m`, which would look for our packages in the caller's folder first. Beam starts its worker
        # processes with -m, hence the variable (Python 3.11 and later).
        export PYTHONSAFEPATH=1 TEXTMINT_PROG="$0"
        # On Python 3.10 each Google client warns at every start that 3.10 is past its time.
        quiet=ignore::FutureWarning:google.api_core._python_version_support
        export PYTHONWARNINGS="${PYTHONWARNINGS:+$PYTHONWARNINGS,}$quiet"
        exec "$venv/bin/textmint" "$command" "$@"
        ;;
esac
case $command in
    test)
        set_up test
        run_tests "$@"
        ;;
    bench)
        set_up run
        cd -- "$root"
        exec "$venv/bin/python" -m benchmarks "$@"
        ;;
    help) help ;;
    version) sed -n 's/^ *version="\(.*\)",$/textmint \1/p' "$root/setup.py" ;;  # also before .venv is there
    *)
        near=$(nearest "$command")
        say "run.sh: unknown command '$command'${near:+: did you mean $near}. ./run.sh --help lists the commands."
        exit 2
        ;;
esac
