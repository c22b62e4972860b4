#!/bin/sh
# check_install.sh: installs into a temporary folder, builds a program with what was installed, and removes it all.
set -eu
cd "$(dirname "$0")/.."
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
make --no-print-directory install PREFIX="$root/usr" >/dev/null

for file in bin/lagoon bin/lagoon-server bin/lagoon-worker lib/liblagoon.a include/lagoon/lagoon.h \
    lib/pkgconfig/lagoon.pc share/lagoon/configs/server.yaml share/man/man1/lagoon.1; do
    [ -s "$root/usr/$file" ] || { echo "check_install: $file is missing" >&2; exit 1; }
done
cat >"$root/client.c" <<'END'
#include <lagoon.h>
#include <stdio.h>

int main(void) {
    struct lg_client_options options = {.coordinator = "127.0.0.1:1", .job = "none", .role = LG_ROLE_OBSERVER,
                                        .timeout_ms = 100};
    struct lg_client *client = NULL;
    struct lg_error error = {0};
    enum lg_status status = lg_client_open(&options, &client, &error);
    printf("%s: %s\n", lg_status_name(status), error.message);
    return status == LG_OK;
}
END
export PKG_CONFIG_PATH="$root/usr/lib/pkgconfig"
# shellcheck disable=SC2046 # lists of flags
cc -std=c11 -Wall -Werror -o "$root/client" "$root/client.c" $(pkg-config --cflags --libs lagoon)
"$root/client"
[ "$("$root/usr/bin/lagoon" --version)" ] || { echo "check_install: lagoon --version says nothing" >&2; exit 1; }
make --no-print-directory uninstall PREFIX="$root/usr"
left=$(find "$root/usr" -type f)
[ -z "$left" ] || { echo "check_install: uninstall leaves $left" >&2; exit 1; }
echo "check_install: ok"
