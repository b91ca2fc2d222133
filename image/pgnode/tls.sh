# TLS: this node's key, which never leaves its volume, and its certificate.

# How long a certificate is good for that a node makes for itself, in days: so that its server starts until the next up.
PROVISIONAL_DAYS=30

# The key of the stack's CA, in the helper container of a birth. It is never exported, and in no file that stays.
AUTHORITY_KEY=${AUTHORITY_KEY:-}

# Sees to it that a server that is to use TLS has a key and a certificate, and that this is right, as far as the CA's key is
# here. Sets CHANGED when it made one. Certificates of the user's are files like others, and these are only made where they
# are missing.
certify() {
    CERTIFICATE=$(own_setting ssl_cert_file) KEY=$(own_setting ssl_key_file)
    case $CERTIFICATE in "$OWN"/*) ;; *) return 0 ;; esac
    [ -n "$AUTHORITY_KEY" ] || [ ! -f "$CERTIFICATE" ] || [ ! -f "$KEY" ] || return 0
    command -v openssl >/dev/null 2>&1 ||
        die "this image has no openssl, which makes the certificate of node $PGNODE_NAME. Set the config key image to an image that has it, such as postgres:17, or the config key tls to off"
    # One that is damaged is of no use.
    openssl pkey -in "$KEY" -noout >/dev/null 2>&1 || rm -f "$KEY"
    if [ ! -f "$KEY" ]; then
        (umask 077 && openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$KEY.new")
        mv -f "$KEY.new" "$KEY"
    fi
    if [ -n "$AUTHORITY_KEY" ]; then
        chmod 600 "$KEY"
        # While one CA takes another's place both are trusted; the first one issues.
        sed '/^-----END/q' "$OWN/ca.crt" >"$OWN/issuer.crt"
        is_certified || issue
        rm -f "$OWN/issuer.crt"
    else
        say "node $PGNODE_NAME has no certificate that the stack has given it: it makes one for itself, which no client that checks it takes. The next up brings the right one"
        issue
    fi
}

# What a certificate says of whom it is for. Those of other versions of OpenSSL are written differently.
names_in() {
    openssl x509 -in "$1" -noout -ext subjectAltName | sed -n '2{s/ //g;s/IPAddress:/IP:/g;p;}'
}

# Whether the certificate is of the stack's CA, for this node's key and names, and far enough from its end. The look asks the
# same; see core/model/certificate.ts.
is_certified() {
    [ -f "$CERTIFICATE" ] &&
        openssl verify -no-CApath -CAfile "$OWN/issuer.crt" "$CERTIFICATE" >/dev/null 2>&1 &&
        openssl x509 -in "$CERTIFICATE" -noout -checkend $((RENEWAL_DAYS * 86400)) >/dev/null &&
        [ "$(openssl x509 -in "$CERTIFICATE" -noout -pubkey)" = "$(openssl pkey -in "$KEY" -pubout)" ] &&
        [ "$(names_in "$CERTIFICATE")" = "$PGNODE_ALTERNATIVE_NAMES" ]
}

# issue: a new certificate, by the stack's CA; without its key by the node itself.
issue() {
    local serial
    serial=0x$(openssl rand -hex 16)
    (
        umask 077
        cat >"$OWN/server.cnf" <<CONFIG
[req]
distinguished_name = name
prompt = no
[name]
CN = $PGNODE_NAME
${AUTHORITY_KEY:+#}O = $PROVISIONAL
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
subjectAltName = ${PGNODE_ALTERNATIVE_NAMES:-DNS:$PGNODE_NAME}
CONFIG
        if [ -n "$AUTHORITY_KEY" ]; then
            openssl req -new -key "$KEY" -config "$OWN/server.cnf" -out "$OWN/server.csr"
            # By the shell itself: on no command line.
            printf '%s\n' "$AUTHORITY_KEY" | openssl x509 -req -in "$OWN/server.csr" -CA "$OWN/issuer.crt" -CAkey /dev/stdin -set_serial "$serial" \
                -sha256 -days "$CERTIFICATE_DAYS" -extfile "$OWN/server.cnf" -extensions leaf -out "$CERTIFICATE.new"
        else
            openssl req -x509 -new -key "$KEY" -config "$OWN/server.cnf" -extensions leaf -set_serial "$serial" \
                -sha256 -days "$PROVISIONAL_DAYS" -out "$CERTIFICATE.new"
        fi
    ) 2>"$OWN/server.log" || {
        cat "$OWN/server.log" >&2
        rm -f "$CERTIFICATE.new" "$OWN/server.csr" "$OWN/server.cnf" "$OWN/server.log"
        die "the certificate of node $PGNODE_NAME could not be made"
    }
    mv -f "$CERTIFICATE.new" "$CERTIFICATE"
    rm -f "$OWN/server.csr" "$OWN/server.cnf" "$OWN/server.log"
    CHANGED=yes
}
