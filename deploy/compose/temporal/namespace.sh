#!/bin/sh
# Makes the namespace with its retention, and the search attributes by which deployments are found. It may run again.
set -eu

until temporal operator cluster health >/dev/null 2>&1; do
    # Compose starts this once Temporal listens; it answers a moment later. Without an end, `up` would wait for ever.
    tries=$((${tries:-0} + 1))
    if [ "$tries" -gt 60 ]; then
        echo "Temporal does not answer at $TEMPORAL_ADDRESS" >&2
        exit 1
    fi
    sleep 1
done

if temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; then
    temporal operator namespace update --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
else
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
fi

for name in DeployService DeployTarget DeployVersion DeployStage DeployOutcome; do
    if temporal operator search-attribute list --namespace "$TEMPORAL_NAMESPACE" | grep -qw "$name"; then
        continue
    fi
    temporal operator search-attribute create --namespace "$TEMPORAL_NAMESPACE" --name "$name" --type Keyword
done
