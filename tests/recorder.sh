#!/bin/sh
# Stands in for python in sweeps: notes its arguments behind train.py, a line a call, with the
# unit separator behind each, and leaves what RESULTS says as results.json.
shift
line=$(printf '%s\037' "$@")
printf '%s\n' "$line" >> "$RECORD"
case " $* " in *"${FAIL:-never}"*) printf 'first line\nthe reason\n'; exit 3 ;; esac
if [ -n "${RESULTS-}" ]; then
    for word; do
        [ "${last-}" = --output-dir ] && printf '%s' "$RESULTS" > "$word/results.json"
        last=$word
    done
fi
exit 0
