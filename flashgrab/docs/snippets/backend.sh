# In your own backend, never in a browser: is this coupon this user's?
BASE=@BASE@
SHOP_TOKEN=${SHOP_TOKEN:?a token whose SHA-256 is in FLASHGRAB_SHOP_TOKENS}
USER_ID=${USER_ID:?the user who is signed in at your shop}
GRAB_ID=${GRAB_ID:-@CAMPAIGN@-1}

# 200 with its state, or 404 GRAB_NOT_FOUND, also where it is somebody else's.
curl -sS --retry 8 "$BASE/v1/grabs/$GRAB_ID?user=$USER_ID" -H "Authorization: Bearer $SHOP_TOKEN"
echo
# All that the user holds in this campaign.
curl -sS --retry 8 "$BASE/v1/grabs?user=$USER_ID&campaign=@CAMPAIGN@" \
  -H "Authorization: Bearer $SHOP_TOKEN"
echo
