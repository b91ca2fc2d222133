# What is this node to do at its next start? Marks in its volume say so, while it is stopped.

check_mark() {
    case " $MARKS " in
    *" $1 "*) ;;
    *) die "\"$1\" is no mark; the marks are: $MARKS" ;;
    esac
}

# mark MARK...: puts them there; see head.sh for what they mean.
mark() {
    local mark
    for mark; do
        check_mark "$mark"
        : >"$ROOT/$mark" || return 1
    done
}

# unmark MARK...: takes back what a change of roles that did not go through has marked. What an earlier one has marked stays.
unmark() {
    local mark
    for mark; do
        check_mark "$mark"
        rm -f "$ROOT/$mark"
    done
}
