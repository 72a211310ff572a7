"""Which engine gets a request, and what happens when that one fails.

`choice`, `health`, `budget` and `failures` judge: pure functions on frozen data, with the time as an argument.
`fleet` knows the engines, and `lookout` tells those who wait when to look at them. `lead` runs the first attempt of a
request, and `race` further ones. `transport` is what the OpenAI client sees.
"""
