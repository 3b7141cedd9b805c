BASE=@BASE@
CAMPAIGN=@CAMPAIGN@
@LOGIN@

# 1. A pass: once for each buyer, before the opening. Nothing is stored for it.
PASS=$(curl -sS --fail-with-body -X POST "$BASE/v1/campaigns/$CAMPAIGN/passes" \
  -H "Authorization: Bearer $TOKEN" | sed 's/.*"pass":"\([^"]*\)".*/\1/')

# 2. The grab. curl repeats it after 429, 503 and no answer, and waits as Retry-After says.
#    One key for one grab, kept until there is an answer: repeats never get a second coupon.
KEY=$(date +%s)-$$
grab() {
  curl -sS --retry 8 --retry-connrefused -X POST "$BASE/v1/campaigns/$CAMPAIGN/grabs" \
    -H "Authorization: Bearer $PASS" -H "Idempotency-Key: $1"
}
ANSWER=$(grab "$KEY")
echo "$ANSWER"

# 3. The same key again: the same grab, with "replayed":true.
grab "$KEY"; echo

# 4. What became of it: GRANTED, then PERSISTED. Only its owner may look.
GRAB=$(echo "$ANSWER" | sed -n 's/.*"grab_id":"\([^"]*\)".*/\1/p')
[ -z "$GRAB" ] || { curl -sS "$BASE/v1/grabs/$GRAB" -H "Authorization: Bearer $PASS"; echo; }

# 5. A refusal is a problem: look at "code"; "type" is a page that explains it.
grab "$KEY-another"; echo
