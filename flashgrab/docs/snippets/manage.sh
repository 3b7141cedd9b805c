BASE=@BASE@
CAMPAIGN=@CAMPAIGN@
ADMIN_TOKEN=${FLASHGRAB_ADMIN_TOKEN:?a token of flashgrab token create, or the ADMIN_TOKEN}

# Every write needs an Idempotency-Key: the operation's name. Repeated, it is applied once.
manage() {
  where=$1 operation=$2; shift 2
  curl -sS --fail-with-body --retry 8 --retry-connrefused -X POST "$BASE$where" \
    -H "Authorization: Bearer $ADMIN_TOKEN" -H "Idempotency-Key: $operation" "$@" && echo
}

# 1. A draft. Relative times are fixed when it is published.
manage /v1/campaigns "create-$CAMPAIGN" -H 'Content-Type: application/toml' --data-binary @- <<TOML
id = "$CAMPAIGN"
name = "30 off 200"
per_user = 1
[rule]
kind = "amount_off"
amount = 3000
threshold = 20000
[[rounds]]
opens_at = "+1m"
closes_at = "+2h"
quota = 1000
TOML

# 2. Publish it: gateways know it within a second. 3. No more grants, until resume.
manage "/v1/campaigns/$CAMPAIGN/publish" "publish-$CAMPAIGN"
manage "/v1/campaigns/$CAMPAIGN/pause" "pause-$CAMPAIGN"

# Ledger and Redis side by side.
curl -sS "$BASE/v1/campaigns/$CAMPAIGN" -H "Authorization: Bearer $ADMIN_TOKEN"; echo
