#!/usr/bin/env bash
# A photo's captions as JSON, and a drawing of where the model looked. Usage: caption.sh PHOTO
set -euo pipefail

photo=$1
server=${GLIMPSE_URL:-http://localhost:8000}

# An error ends with the problem document shown; a busy server is asked again when it says.
ask=(curl --silent --show-error --fail-with-body --retry 5 --max-time 60)
if [ -n "${GLIMPSE_API_KEY:-}" ]; then
  ask+=(-H "X-API-Key: $GLIMPSE_API_KEY")
fi

"${ask[@]}" -F "image=@$photo" "$server/caption?num_captions=3"
"${ask[@]}" -F "image=@$photo" "$server/attention?format=png" -o attention.png
