#!/bin/sh
# What tests need of the system, and pip does not bring: `tests/system.sh NEED…`, of linux, git, locales and chromium.
# As root where apt-get is, it installs what is missing. Elsewhere it says how to, before anybody waits for a test.
set -eu

has() {
  case $1 in
    linux) [ "$(uname)" = Linux ] && command -v unshare nsenter >/dev/null ;;
    git) command -v git >/dev/null ;;
    locales) [ -e /usr/share/i18n/locales/en_US ] ;;
    chromium)
      [ -x "${AXON_CHROMIUM:-}" ] && return
      for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" >/dev/null && return
      done
      return 1
      ;;
  esac
}

how() {
  case $1 in
    linux) echo "Linux with unshare and nsenter (util-linux): \`make test-ui\`, the tests of the panel, can do without" ;;
    git) echo "git: sudo apt-get install git (Debian, Ubuntu), sudo dnf install git (Fedora)" ;;
    locales) echo "the sources of locales: sudo apt-get install locales (Debian, Ubuntu)," \
      "sudo dnf install glibc-locale-source (Fedora)" ;;
    chromium) echo "Chromium: sudo apt-get install chromium (Debian), sudo dnf install chromium (Fedora);" \
      "elsewhere Google Chrome does as well. Name one that is not on the PATH in AXON_CHROMIUM, as on macOS" \
      "'/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'" ;;
  esac
}

absent() {
  for need in "$@"; do has "$need" || printf '%s ' "$need"; done
}

missing=$(absent "$@")
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  packages=$(echo "$missing" | sed 's/linux/util-linux/')
  echo "Installing what the tests need: $packages" >&2
  # shellcheck disable=SC2086 # words
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y $packages >/dev/null; } || true
  missing=$(absent "$@")
fi
[ -z "$missing" ] && exit
echo "The tests need what is not on this machine:" >&2
for need in $missing; do printf '  %s\n' "$(how "$need")" >&2; done
exit 1
