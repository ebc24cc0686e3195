#!/bin/sh
# Adds up a shopping list on standard input: one "name quantity price" a line, prices in cents.
set -eu

total=0
while read -r name quantity price; do
    case $name in '' | '#'*) continue ;; esac
    total=$((total + price))
done
echo "$total"
