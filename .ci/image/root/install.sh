#!/bin/sh
# Install what Ortolan needs with some extras into /opt/ortolan, and lay it out for the image: install.sh cpu,cloud
set -eu
python /build/requirements.py pyproject.toml "$1" > /build/requirements.txt
python -m pip --python /opt/ortolan/bin/python install --no-compile \
  --constraint constraints.txt --requirement /build/requirements.txt
python /build/lay_out.py packages /opt/ortolan /image
python /build/lay_out.py system /opt/ortolan /image
