#!/bin/sh
# SeaweedFS in one process, with the one key of the environment, and the bucket `limner`.
set -eu
umask 077
until [ -w "${S3_DATA:-/data}" ]; do sleep 1; done  # `s3-owner` gives it to this user
data=${S3_DATA:-/data} config=${S3_CONFIG:-/tmp/s3.json}
cat >"$config" <<END
{"identities": [{"name": "limner", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
  "credentials": [{"accessKey": "$AWS_ACCESS_KEY_ID", "secretKey": "$AWS_SECRET_ACCESS_KEY"}]}]}
END
in_shell() { echo "$1" | weed shell -master=127.0.0.1:9333 -filer=127.0.0.1:8888 2>/dev/null; }
(
    until in_shell s3.bucket.list | grep -q '^  limner'; do
        in_shell 's3.bucket.create -name limner' >/dev/null || true
        sleep 1
    done
) &
# Only the S3 API is reached from outside this container.
exec weed server -dir="$data" -ip=127.0.0.1 -ip.bind=127.0.0.1 -filer -s3 -s3.config="$config" -s3.ip.bind=0.0.0.0 \
    -master.volumeSizeLimitMB=1024 -volume.max=0
