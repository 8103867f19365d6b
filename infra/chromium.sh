#!/usr/bin/env bash
# Installs Chromium, in which the tests look at pages as a person would, where the machine has none.
set -euo pipefail

if command -v chromium >/dev/null || command -v google-chrome >/dev/null; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "error: there is no Chromium on the PATH, and no apt-get as root that could install one" >&2
    echo "  what to do: install it (Debian: apt-get install chromium)" >&2
    exit 1
fi
echo "setup: installing Chromium for the tests of pages"
apt-get update -q >/dev/null
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium >/dev/null
