#!/bin/sh
# Fills in the template (its head lists the variables) and starts nginx.
set -eu
# Docker's name server and podman's have different addresses; both are in resolv.conf.
: "${NGINX_RESOLVER:=$(awk '$1 == "nameserver" { print ($2 ~ /:/) ? "[" $2 "]" : $2; exit }' /etc/resolv.conf)}"
export NGINX_RESOLVER
# shellcheck disable=SC2016
envsubst "$(env | sed -n 's/^\(NGINX_[A-Z_]*\)=.*/$\1/p' | tr '\n' ' ')" </etc/limner/nginx.conf >"$NGINX_TMP/nginx.conf"
exec nginx -e stderr -c "$NGINX_TMP/nginx.conf" -g 'daemon off;'
