# The marks that this stopped node has, so that whoever marks it next knows which ones are not its own.
marks() {
    local mark
    for mark in $MARKS; do
        [ ! -e "$ROOT/$mark" ] || echo "mark $mark"
    done
}

check_mark() {
    case " $MARKS " in
    *" $1 "*) ;;
    *) die "\"$1\" is no mark; the marks are: $MARKS" ;;
    esac
}

# unfence MARK...: takes back what a change of roles that did not go through has marked. What an earlier one has marked stays.
unfence() {
    local mark
    for mark; do
        check_mark "$mark"
        rm -f "$ROOT/$mark"
    done
}

# fence [MARK...]: what the marks of failover and switchover are when there is no container to copy them into.
fence() {
    local mark
    for mark in "${@:-fenced}"; do
        check_mark "$mark"
        : >"$ROOT/$mark"
    done
}
