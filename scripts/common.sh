# Sourced by the scripts beside it: where things are, and how to fail.
# Sets ROOT and changes to it; makes HOME and PATH usable in bare shells.

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$ROOT"

# Debian keeps kamailio, dnsmasq, nft and mkfs in sbin, which users lack.
PATH=${PATH:-/usr/bin:/bin}:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin
export PATH

if [[ -z ${HOME:-} ]]; then
	HOME=$(getent passwd "$(id -u)" | cut -d: -f6 || true)
	[[ -n $HOME && -w $HOME ]] || HOME=$ROOT/build/home
	mkdir -p -- "$HOME"
	export HOME
fi

# go.mod says which Go is needed; nothing may fetch another one.
export GOTOOLCHAIN=local
# A checkout that belongs to another user must build too; git would refuse it.
export GOFLAGS="${GOFLAGS:-} -buildvcs=false"

say() { printf 'ringfence: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
