#!/usr/bin/env bash
# Installs what msd needs to build and test, by Debian package name. Safe to run again.
#   scripts/setup.sh            installs what is missing (as root, or by sudo)
#   scripts/setup.sh --list     prints the packages and installs nothing
set -euo pipefail

packages=(
  build-essential cmake ninja-build pkg-config git ca-certificates
  libdnnl-dev            # matrix products and convolutions on the CPU
  libjansson-dev         # JSON
  libfyaml-dev           # YAML with line numbers
  libpng-dev libjpeg62-turbo-dev libwebp-dev   # pictures
  libpcre2-dev libutf8proc-dev                 # CLIP's tokenizer
  libssl-dev             # SHA-256
  zlib1g-dev             # CRC-32 of torch's zip files
  libhdf5-dev            # the encoder cache
  libopenmpi-dev         # training with many processes
  libcmocka-dev          # tests
)

if [ "${1:-}" = --list ]; then
  printf '%s\n' "${packages[@]}"
  exit 0
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "setup: this script installs Debian packages; on another system install the equivalents of:" >&2
  printf '  %s\n' "${packages[@]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done

if [ ${#missing[@]} -eq 0 ]; then
  echo "setup: everything is installed"
  exit 0
fi

if [ "$(id -u)" = 0 ]; then
  as_root=()
elif command -v sudo >/dev/null; then
  as_root=(sudo)
else
  echo "setup: missing: ${missing[*]}" >&2
  echo "setup: neither root nor sudo here; ask an administrator to run: apt-get install ${missing[*]}" >&2
  exit 1
fi

echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q
"${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
