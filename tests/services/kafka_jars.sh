#!/bin/sh
# Copies Apache Kafka's jars into .cache/kafka/libs with Maven (`make kafka` calls this).
# Does nothing when the stamp there says that the jars belong to the present pom.xml.
# Exit: 0 the jars are there, 2 Java or Maven is missing, else Maven's own status.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cache="$(dirname -- "$(dirname -- "$here")")/.cache/kafka"
want=$(cksum < "$here/pom.xml")

if [ -f "$cache/stamp" ] && [ "$(cat "$cache/stamp")" = "$want" ]; then
    echo "kafka: jars are up to date in $cache/libs"
    exit 0
fi
for tool in java mvn; do
    if ! command -v "$tool" > /dev/null; then
        echo "kafka: '$tool' is not installed (Debian: default-jre-headless and maven)" >&2
        exit 2
    fi
done

rm -rf "$cache/libs" "$cache/stamp"
mkdir -p "$cache/libs"
mvn --batch-mode --quiet --file "$here/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime "-DoutputDirectory=$cache/libs"
printf '%s\n' "$want" > "$cache/stamp"
echo "kafka: $(find "$cache/libs" -name '*.jar' | wc -l) jars in $cache/libs"
