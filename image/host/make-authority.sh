# Makes the stack's certificate authority: prints its key and its certificate, both PEM. A helper container of the stack's
# image does it, because this machine may have no openssl; nothing of it is written anywhere.
#
# Environment: NODE_IMAGE, AUTHORITY_NAME (whose it is), AUTHORITY_ORGANISATION, AUTHORITY_DAYS.
set -eu
# The user's choice has been heeded when DOCKER_HOST was found.
unset DOCKER_CONTEXT
exec docker run --rm -i --network none --entrypoint sh -e AUTHORITY_NAME -e AUTHORITY_ORGANISATION -e AUTHORITY_DAYS "$NODE_IMAGE" -s <<'PROGRAM'
set -eu
command -v openssl >/dev/null 2>&1 || {
    echo "pgnode: this image has no openssl, which makes the stack's certificates. Set the config key image to an image that has it, such as postgres:17, or the config key tls to off" >&2
    exit 1
}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/config" <<CONFIG
[req]
distinguished_name = name
prompt = no
x509_extensions = authority
[name]
O = $AUTHORITY_ORGANISATION
CN = $(printf %s "$AUTHORITY_NAME" | cut -c 1-64)
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
CONFIG
openssl req -x509 -config "$folder/config" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 -days "$AUTHORITY_DAYS" \
    -set_serial "0x$(openssl rand -hex 16)" -keyout /dev/stdout 2>"$folder/log" || {
    cat "$folder/log" >&2
    exit 1
}
PROGRAM
