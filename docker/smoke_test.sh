#!/usr/bin/env bash
# Builds the CPU image and reads a page in it. Codes: 0 read, 3 no Docker runs here, any other not read.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! docker info >/dev/null 2>&1; then
  echo "smoke_test: no Docker runs here; start it, or install by hand as docs/installation.md says" >&2
  exit 3
fi
docker build -f docker/Dockerfile -t got_train:smoke .
help=$(docker run --rm got_train:smoke --help)
grep -q "convert-data" <<<"$help"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
docker run --rm --user "$(id -u):$(id -g)" -v "$folder:/out" --entrypoint python got_train:smoke \
  -c "from PIL import Image, ImageDraw; page = Image.new('RGB', (128, 128), 'white'); ImageDraw.Draw(page).text((8, 8), 'mill', fill='black', font_size=20); page.save('/out/page.png')"
docker run --rm --user "$(id -u):$(id -g)" -v "$folder:/out" got_train:smoke \
  infer --model-name-or-path configs/nano/weights/stage3 --image-file /out/page.png --output-dir /out/read --format pdf
grep -qx "mill" "$folder/read/page.txt"
test -s "$folder/read/page.pdf"
echo "smoke_test: read $(head -c 60 "$folder/read/page.txt")"
