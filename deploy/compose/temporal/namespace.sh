#!/bin/sh
# Makes the namespace with its retention, and the search attributes by which deployments are found. It may run again.
set -eu
export TEMPORAL_NAMESPACE

# Compose starts this once Temporal listens; it knows its namespaces a moment later.
wait_for() {
    tries=0
    until temporal "$@" --command-timeout 5s >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 30 ]; then
            temporal "$@" --command-timeout 5s
            exit 1
        fi
        sleep 1
    done
}

wait_for operator cluster health
if temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; then
    temporal operator namespace update --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
else
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
fi
wait_for operator search-attribute list

for name in DeployService DeployTarget DeployVersion DeployStage DeployOutcome; do
    if ! temporal operator search-attribute list | grep -qw "$name"; then
        temporal operator search-attribute create --name "$name" --type Keyword
    fi
done
