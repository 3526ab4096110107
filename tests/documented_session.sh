# What the commands of a documented page are in a test: see documented_session.py.
set -eu -o pipefail

_servers=$SESSION/servers
: > "$_servers"

_end_servers() {
  local pid
  while read -r pid; do
    kill "$pid" 2> "$SESSION/killed" || true
    while kill -0 "$pid" 2> "$SESSION/killed"; do sleep 0.05; done
  done < "$_servers"
  : > "$_servers"
}
trap _end_servers EXIT

# Platforms say by the environment which port it is; the session's port would beat them.
_hosted() { [ -n "${SAGEMAKER_BIND_TO_PORT-}${AIP_MODE-}${K_SERVICE-}${AZUREML_MODEL_DIR-}" ]; }

_serve() {
  if _hosted; then unset ORTOLAN_HTTP_PORT; fi
  echo "$BASHPID" >> "$_servers"
  exec "$PYTHON" -m ortolan "$@" > "$SESSION/server.out" 2> "$SESSION/server.log"
}

ortolan() {
  # It asks the documented port where it is told none.
  if [ "$*" = status ]; then set -- status "127.0.0.1:$ORTOLAN_HTTP_PORT"; fi
  if [ "${1-}" != serve ] || [ "${2-}" = --help ]; then
    "$PYTHON" -m ortolan "$@"
    return
  fi
  # Behind `&` this is a shell of its own: the server is one more, whose process is that of $!.
  if [ "$BASH_SUBSHELL" -gt 0 ]; then _serve "$@"; fi
  _end_servers
  : > "$SESSION/server.out"
  _serve "$@" &
  local pid=$!
  until grep -q '^  metrics \|^Try it' "$SESSION/server.out"; do
    if ! kill -0 "$pid" 2> "$SESSION/killed"; then
      cat "$SESSION/server.log" >&2
      return 1
    fi
    sleep 0.05
  done
  cat "$SESSION/server.out"
}

make() {
  if [ "${1-}" = serve ]; then ortolan serve model_repo; else command make -n "$@" > "$SESSION/made"; fi
}

pip() { "$PYTHON" "$TESTS/documented_pip.py" "$@"; }
