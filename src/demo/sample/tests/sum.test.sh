# A list of single things is the sum of their prices.
sum=$(printf 'bread 1 250\nmilk 1 120\n' | sh tally.sh)
[ "$sum" = 370 ] || { echo "expected 370, got $sum"; exit 1; }
