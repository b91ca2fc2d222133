#!/bin/sh
# Stands before the user's own ssh where the docker command line looks for it, which starts one for every connection: those to
# one host share one, and a host that is not there is known after seconds. Keys, ports, jump hosts and known hosts are the
# matter of the user's own ssh config; host keys are checked as that says.
own=$(dirname "$0")
# Without a colon at an end: that would be the current folder.
PATH=$(printf '%s' "$PATH" | tr ':' '\n' | grep -v -x -F "$own" | paste -s -d : -)
export PATH
[ -d "$HOME/.ssh" ] || mkdir -m 700 "$HOME/.ssh"
# shellcheck disable=SC2086 # words on purpose
exec ssh OPTIONS "$@"
